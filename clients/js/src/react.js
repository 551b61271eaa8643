/**
 * Hooks for React 18 and later: values are rendered once per animation frame, however many frames come.
 *
 * @module react
 */

import { createContext, createElement, useContext, useEffect, useMemo, useRef, useSyncExternalStore } from "react";

import { connect } from "./fanline.js";

/** @typedef {import("./fanline.js").Fanline<any>} Fanline */
/** @typedef {import("./fanline.js").Frame} Frame */
/** @typedef {import("./fanline.js").Handler} Handler */
/**
 * What is known of a topic. `frame` is its newest frame, undefined before the first; the rest says whether to trust it.
 * @template [Data=any]
 * @typedef {{topic: string, data: Data | undefined, frame: Frame | undefined, isCurrent: boolean, isStale: boolean, delay_ms: number}} Reading
 */

/** A client that nobody uses is closed after so long: a component that is mounted again at once does not reconnect. */
const LINGER_MS = 1_000;
/** Readings change by time, too; a hidden page paints no animation frames. */
const FLUSH_MS = 250;
const EVENTS = /** @type {const} */ (["state", "late", "stale", "live", "refused", "gap", "view"]);

const Context = createContext(/** @type {Fanline | undefined} */ (undefined));

/** @type {Map<string, {client: Fanline, users: number, timer?: any}>} by address and plain options */
const shared = new Map();

/**
 * Gives its children a client: the one in `client`, or one for `url` that lives as long as somebody uses it.
 * @param {{client?: Fanline, url?: string, options?: import("./fanline.js").Options, children?: import("react").ReactNode}} props
 */
export function FanlineProvider({ client, url, options, children }) {
  const key = client ? undefined : JSON.stringify([url, options]);
  const own = useMemo(() => (key === undefined ? undefined : lend(key, url ?? "/v1/ws", options)), [key]);
  useEffect(() => (key === undefined ? undefined : use(key, url ?? "/v1/ws", options)), [key]);
  return createElement(Context.Provider, { value: client ?? own }, children);
}

/** @param {string} key @param {string} url @param {import("./fanline.js").Options} [options] */
function entry(key, url, options) {
  const known = shared.get(key);
  if (known) return known;
  /** @type {{client: Fanline, users: number, timer?: any}} */
  const made = { client: connect(url, options), users: 0 };
  shared.set(key, made);
  return made;
}

/** @param {string} key */
function linger(key) {
  const it = shared.get(key);
  if (!it || it.users) return;
  clearTimeout(it.timer);
  it.timer = setTimeout(() => {
    shared.delete(key);
    it.client.close();
  }, LINGER_MS);
}

/** A render that may never be mounted. @param {string} key @param {string} url @param {import("./fanline.js").Options} [options] */
function lend(key, url, options) {
  const { client } = entry(key, url, options);
  linger(key);
  return client;
}

/** @param {string} key @param {string} url @param {import("./fanline.js").Options} [options] */
function use(key, url, options) {
  const it = entry(key, url, options);
  it.users += 1;
  clearTimeout(it.timer);
  return () => {
    it.users -= 1;
    linger(key);
  };
}

/** The client of the provider above. @returns {Fanline} */
export function useFanline() {
  const client = useContext(Context);
  if (!client) throw new Error("expected a FanlineProvider above this component, found none");
  return client;
}

/** The state of the client. @returns {import("./fanline.js").State} */
export function useFanlineState() {
  const client = useFanline();
  const subscribe = useMemo(() => (/** @type {() => void} */ changed) => client.on("state", changed), [client]);
  return useSyncExternalStore(subscribe, () => client.state, () => "idle");
}

/**
 * What is known of a topic, or what `selector` takes of it. Renders only when that changes.
 * @template [Selected=Reading]
 * @param {string} topic
 * @param {(reading: Reading) => Selected} [selector]
 * @returns {Selected}
 */
export function useTopic(topic, selector) {
  const store = useStore(topic);
  return useSelected(store, (readings) => readings.find((it) => it.topic === topic) ?? store.nothing, selector);
}

/**
 * What is known of all topics that match, by name, or what `selector` takes of it.
 * @template [Selected=Reading[]]
 * @param {string} pattern
 * @param {(readings: Reading[]) => Selected} [selector]
 * @returns {Selected}
 */
export function useTopics(pattern, selector) {
  return useSelected(useStore(pattern), (readings) => readings, selector);
}

/**
 * Calls `handler` for every frame, without rendering.
 * @param {string | string[]} patterns
 * @param {Handler} handler
 */
export function useFrames(patterns, handler) {
  const client = useFanline();
  const newest = useRef(handler);
  useEffect(() => {
    newest.current = handler;
  });
  const key = [patterns].flat().join();
  useEffect(() => {
    const subscription = client.subscribe(key.split(","), (...frame) => newest.current(...frame));
    return () => subscription.unsubscribe();
  }, [client, key]);
}

/** @param {string} pattern */
function useStore(pattern) {
  const client = useFanline();
  return useMemo(() => storeOf(client, pattern), [client, pattern]);
}

/** @param {Store} store @param {(readings: Reading[]) => any} pick @param {((picked: any) => any) | undefined} selector */
function useSelected(store, pick, selector) {
  // React asks again and again, and must get the same answer until something has changed.
  const last = useRef(/** @type {any} */ ({}));
  const select = (/** @type {Reading[]} */ readings) => {
    const { current } = last;
    if (current.readings === readings && current.selector === selector) return current.value;
    const picked = pick(readings);
    const value = selector && picked ? selector(picked) : picked;
    const kept = current.isKnown && Object.is(current.picked, picked) && current.selector === selector ? current.value : value;
    last.current = { isKnown: true, readings, selector, picked, value: kept };
    return kept;
  };
  return useSyncExternalStore(store.subscribe, () => select(store.readings), () => select(NOTHING));
}

/** @type {Reading[]} */
const NOTHING = [];

/** @type {WeakMap<Fanline, Map<string, Store>>} */
const stores = new WeakMap();

/** @param {Fanline} client @param {string} pattern */
function storeOf(client, pattern) {
  const all = stores.get(client) ?? new Map();
  stores.set(client, all);
  const known = all.get(pattern) ?? new Store(client, pattern);
  all.set(pattern, known);
  return known;
}

/** Readings of the topics of one pattern, which change once per animation frame. */
class Store {
  /** By topic; replaced when one of them has changed. @type {Reading[]} */
  readings = NOTHING;
  /** Of a topic of which nothing is known. @type {Reading} */
  nothing;
  #client;
  #pattern;
  /** @type {Set<() => void>} */
  #listeners = new Set();
  /** @type {Map<string, Frame>} */
  #frames = new Map();
  #isDue = false;
  /** @type {() => void} */
  #stop = () => {};

  /** @param {Fanline} client @param {string} pattern */
  constructor(client, pattern) {
    this.#client = client;
    this.#pattern = pattern;
    this.nothing = { topic: pattern, data: undefined, frame: undefined, isCurrent: false, isStale: false, delay_ms: 0 };
  }

  /** @param {() => void} listener */
  subscribe = (listener) => {
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) this.#start();
    return () => {
      this.#listeners.delete(listener);
      if (!this.#listeners.size) this.#stop();
    };
  };

  #start() {
    const subscription = this.#client.subscribe(this.#pattern, (frame) => {
      this.#frames.set(frame.topic, frame);
      this.#due();
    });
    const offs = EVENTS.map((name) => this.#client.on(name, () => this.#due()));
    const timer = setInterval(() => this.#due(), FLUSH_MS);
    this.#flush();
    this.#stop = () => {
      subscription.unsubscribe();
      for (const off of offs) off();
      clearInterval(timer);
      this.#frames.clear();
    };
  }

  #due() {
    if (this.#isDue) return;
    this.#isDue = true;
    const isPainted = globalThis.document?.visibilityState === "visible";
    const later = isPainted ? requestAnimationFrame : (/** @type {() => void} */ fn) => setTimeout(fn, FLUSH_MS);
    later(() => {
      this.#isDue = false;
      this.#flush();
      for (const listener of [...this.#listeners]) listener();
    });
  }

  #flush() {
    let isChanged = this.#frames.size !== this.readings.length;
    const before = new Map(this.readings.map((it) => [it.topic, it]));
    const readings = [...this.#frames].map(([topic, frame]) => {
      const known = before.get(topic);
      const isCurrent = this.#client.isCurrent(topic);
      const isStale = this.#client.isStale(topic);
      const delay_ms = this.#client.delayOf(topic);
      const isSame = known && known.frame === frame && known.isCurrent === isCurrent && known.isStale === isStale;
      if (isSame && known.delay_ms === delay_ms) return known;
      isChanged = true;
      return { topic, data: frame.data, frame, isCurrent, isStale, delay_ms };
    });
    if (isChanged) this.readings = readings.sort((a, b) => (a.topic < b.topic ? -1 : 1));
  }
}
