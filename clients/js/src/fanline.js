/**
 * Client of fanline's protocol `fanline.v1` (docs/PROTOCOL.md) as one ES module, for browsers and for Node.
 *
 * Invariants:
 *  - Per topic a handler sees each frame at most once and in order; what is left out is announced by `skipped`.
 *  - A value is current only while the connection stands, the feed is not stale, all that was missed has arrived, and
 *    what arrives is not late by the server's clock.
 *  - Someone is always trying: as long as the client is not closed it reconnects, resubscribes and resumes by itself.
 *
 * Deliberately absent: a buffer of outbound commands (they are derived from the subscriptions), `format=raw`, storage.
 *
 * @module fanline
 */

import { Clock } from "./clock.js";
import { AskError, Unauthorized } from "./errors.js";
import { Interests } from "./interests.js";
import { Link } from "./link.js";
import { TRANSITIONS } from "./machine.js";
import { complete, paceOf } from "./options.js";
import { checkPattern, matches } from "./pattern.js";
import { Place } from "./place.js";
import { Subscription } from "./subscription.js";
import { Subscriptions } from "./subscriptions.js";
import { Topics } from "./topics.js";

export { AskError, checkPattern, matches, TRANSITIONS, Unauthorized };

/** @template [Data=any] @typedef {import("./options.js").Frame<Data>} Frame */
/** @template [Data=any] @typedef {import("./options.js").Handler<Data>} Handler */
/** @template Topics, Pattern @typedef {import("./options.js").DataOf<Topics, Pattern>} DataOf */
/** @typedef {import("./options.js").Address} Address */
/** @typedef {import("./options.js").Closed} Closed */
/** @typedef {import("./options.js").Events} Events */
/** @typedef {import("./options.js").Gap} Gap */
/** @typedef {import("./options.js").Options} Options */
/** @typedef {import("./options.js").Skipped} Skipped */
/** @typedef {import("./options.js").Stale} Stale */
/** @typedef {import("./options.js").State} State */
/** @typedef {import("./options.js").StateEvent} StateEvent */
/** @typedef {import("./options.js").SubscriptionEvent} SubscriptionEvent */
/** @typedef {import("./options.js").SubscriptionState} SubscriptionState */
/** @typedef {import("./options.js").TokenSource} TokenSource */
/** @typedef {import("./options.js").Transport} Transport */
/** @typedef {import("./options.js").TransportName} TransportName */

/**
 * Opens a connection that keeps itself up until `close()`.
 * @template {object} [Topics=Record<string, any>]
 * @param {Address | (() => Address | Promise<Address>)} url a function is asked before each attempt
 * @param {Options} [options]
 * @returns {Fanline<Topics>}
 */
export function connect(url, options = {}) {
  return new Fanline(url, options);
}

/** Messages whose `ts` is when the server sends them. */
const SAID_NOW = new Set(["welcome", "view", "heartbeat", "pong"]);
/** A second is seen by a person; a network and a busy page that are well need less. */
const LATE_MS = 1000;

/** @template {object} [Topics=Record<string, any>] */
export class Fanline {
  /** Data frames received, and the characters of all messages received (before compression). */
  messages = 0;
  bytes = 0;
  /** Whether the server has said that its prices are invented. */
  simulated = false;
  /** Where it connects; undefined before a URL function has answered. @type {URL | undefined} */
  url;
  /** What the server says of the token: `sub`, `tier` and more. @type {Record<string, any> | undefined} */
  identity;
  /** Resolves when the client has ended, with why. @type {Promise<Closed>} */
  closed;

  #options;
  /** @type {(text: string) => any} */
  #parse = JSON.parse;
  #link;
  #clock;
  #place = new Place(() => this.#subscriptions.review());
  #topics = new Topics();
  #interests;
  #subscriptions;
  /** @type {Map<string, Set<(event: any) => void>>} */
  #events = new Map();
  #wasLate = false;
  #isChanged = false; // the subscriptions are to be told to the server

  /** @param {Address | (() => Address | Promise<Address>)} url @param {Options} options */
  constructor(url, options) {
    this.#options = complete(options);
    const { clock, logger, numbers, signal, since } = this.#options;
    this.#clock = new Clock(clock);
    if (since) this.#place.resume(since);
    /** @type {(closed: Closed) => void} */
    let resolve;
    this.closed = new Promise((it) => (resolve = it));
    const abort = () => this.close();
    this.#link = new Link(this.#options, {
      clock: this.#clock,
      url: async () => {
        if (numbers === "exact") this.#parse = (await import("./numbers.js")).parseExact;
        return this.#resolve(typeof url === "function" ? await url() : url);
      },
      onOpen: () => this.#interests.open(),
      onText: (text) => this.#receive(text),
      onLost: (cursor) => {
        this.#place.lost(this.#interests.inForce, cursor);
        this.#interests.lost();
      },
      onState: (event) => {
        logger?.debug("fanline:", event);
        this.#emit("state", event);
        this.#subscriptions.review();
      },
      onClosed: (closed) => {
        signal?.removeEventListener("abort", abort);
        const error = closed.terminal ? new Error(`closed: ${closed.reason} (${closed.code})`) : undefined;
        for (const subscription of this.#subscriptions) this.#end(subscription, error);
        resolve(closed);
      },
      onError: (error) => this.#error(error),
      onBeat: () => this.#judge(),
      onLook: () => this.#change(),
      probe: () => ({ op: "subscribe", topics: [...this.#interests.keys()].slice(0, 1), since: this.cursor }),
    });
    this.#interests = new Interests(this.#options, this.#link, this.#place, (answer, patterns, since) =>
      this.#answers[answer.op]?.(answer, patterns, since),
    );
    this.#subscriptions = new Subscriptions(this.#link, this.#place, this.#topics, (event) =>
      this.#emit("subscription", event),
    );
    if (typeof url !== "function") this.#resolve(url);
    signal?.addEventListener("abort", abort);
    if (signal?.aborted) this.close();
    else this.#link.start();
  }

  /** @returns {State} */
  get state() {
    return this.#link.state;
  }

  /** Name of the transport that is used, or tried. */
  get transport() {
    return this.#link.transport;
  }

  /** What to resume from later, as option `since`; undefined while that is not known. @returns {string | undefined} */
  get cursor() {
    return this.#place.cursor;
  }

  /** What those know of it that it shares its connection with. @internal */
  get shared() {
    return { place: this.#place, interests: this.#interests, delays: this.#topics.delays };
  }

  /**
   * Registers for an event and returns the function that ends it:
   * `state` ({state, reason, retry_ms, transport}), `subscription` ({subscription, state, reason}), `late` ({late, age_ms})
   * whenever `isLate` changes, and the server's own messages `stale`, `live`, `gap`, `refused`, `skipped`, `view`, `error`,
   * `goodbye`.
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {(event: Events[Name]) => void} fn
   */
  on(name, fn) {
    const fns = this.#events.get(name) ?? new Set();
    this.#events.set(name, fns.add(fn));
    return () => void fns.delete(fn);
  }

  /**
   * Subscribes to patterns; throws a TypeError that names the first one that is none. The handler first gets the
   * current values: those known here before this returns, the others when the server sends them.
   * @template {string} Pattern
   * @param {Pattern | readonly Pattern[]} topics
   * @param {Handler<DataOf<Topics, Pattern>>} handler
   * @param {{signal?: AbortSignal}} [options] `signal` ends the subscription
   */
  subscribe(topics, handler, options = {}) {
    const { signal, onEnd } = /** @type {import("./subscription.js").Ending} */ (options);
    const patterns = [.../** @type {Set<string>} */ (new Set([topics].flat()))];
    for (const pattern of patterns) {
      const wrong = checkPattern(pattern);
      if (wrong) throw new TypeError(wrong);
    }
    const subscription = new Subscription(patterns, this.#interests.use(patterns), handler, (it) => this.#end(it), signal, onEnd);
    this.#subscriptions.begin(subscription);
    for (const [frame, text] of this.#topics.told(patterns)) guard(handler, frame, false, text);
    if (this.state === "closed" || signal?.aborted) subscription.unsubscribe();
    this.#change();
    return subscription;
  }

  /**
   * Subscribes for `for await`, from its first turn on. The loop ends with `break`, with the signal, and with the client; it
   * throws if the client was ended by the server.
   * @template {string} Pattern
   * @param {Pattern | readonly Pattern[]} topics
   * @param {{buffer?: import("./frames.js").Buffering, signal?: AbortSignal}} [options] `buffer` is what is kept for a loop
   *   that is busy: `latest` (the newest frame of each topic; default), a number of frames, or `all`
   * @returns {AsyncGenerator<Frame<DataOf<Topics, Pattern>>, void, void>}
   */
  async *frames(topics, options) {
    yield* (await import("./frames.js")).framesOf(this, topics, options);
  }

  /** At most one update per topic and so many ms from now on, the newest; 0 for every frame. @param {number} every_ms */
  setPace(every_ms) {
    this.#options.every_ms = every_ms;
    this.#change();
  }

  /** Shows a new token of the same user. @param {string} token */
  setToken(token) {
    this.#link.setToken(token);
  }

  /** Whether the newest value received of `topic` is still what the feed says. @param {string} topic */
  isCurrent(topic) {
    const known = this.#topics.get(topic);
    if (this.state !== "open" || !known?.frame || this.isStale(topic) || this.isLate) return false;
    return this.#place.caughtUp || (known.connection === this.#link.number && !this.#place.isReplaying);
  }

  /** Whether the server has said that values of `topic` may be outdated, or that it is refused. @param {string} topic */
  isStale(topic) {
    return this.#topics.trouble(topic) !== "";
  }

  /**
   * Whether what is known is too old to be called current: messages are read long after the server said them (this side
   * or the line cannot keep up, or was frozen), or the server was not heard for 4 s although it was asked.
   */
  get isLate() {
    return this.#clock.isLate;
  }

  /** Whether the server was not heard for 4 s although it was asked, or the browser says that there is no network. */
  get isSilent() {
    return this.#clock.isSilent;
  }

  /** How late the newest message was when it was read, in ms by the server's clock. */
  get lateness() {
    return this.#clock.lateness;
  }

  /** Milliseconds since the server said the newest thing that this client knows; NaN before the first. */
  get age() {
    return this.#clock.age;
  }

  /** How much later than received the server sends messages of `topic`, in ms; 0 if they are live. @param {string} topic */
  delayOf(topic) {
    return this.#topics.delayOf(topic);
  }

  /** Whether values of `topic` are older than the feed's by intention. @param {string} topic */
  isDelayed(topic) {
    return this.delayOf(topic) > 0;
  }

  /** The longest delay of any topic, in ms; 0 if all are live. */
  get delay() {
    return Math.max(0, ...Object.values(this.#topics.delays));
  }

  /**
   * The newest frame received of `topic`.
   * @template {string} Topic
   * @param {Topic} topic
   * @returns {Frame<DataOf<Topics, Topic>> | undefined}
   */
  latest(topic) {
    return this.#topics.get(topic)?.frame;
  }

  /** Topics of which a value is known. @returns {string[]} */
  get topics() {
    return [...this.#topics].filter(([, { frame }]) => frame).map(([topic]) => topic);
  }

  /** Whether everything that this client missed, if anything, has arrived. */
  get caughtUp() {
    return this.#place.caughtUp;
  }

  /** This client's clock minus the server's in ms; NaN before the first welcome. Good to half of `roundTrip`. */
  get clockOffset() {
    return this.#clock.offset;
  }

  /** Shortest recent round trip to the server in ms; NaN before the first answer to a ping. */
  get roundTrip() {
    return this.#clock.roundTrip;
  }

  /** This client's clock: milliseconds since the Unix epoch. */
  now() {
    return this.#options.clock();
  }

  /** Milliseconds from the server's receiving a frame to now. @param {Frame} frame */
  latency(frame) {
    return this.now() - (frame.ts + this.clockOffset);
  }

  /** Ends a wait for the next attempt at once. */
  reconnect() {
    this.#link.dial();
  }

  /** Ends everything; a closed client is not used again. */
  close() {
    this.#link.close();
  }

  async [Symbol.asyncDispose]() {
    this.close();
    await this.closed;
  }

  /**
   * Says something to the feed. Resolves once it was handed over; rejects with an `AskError`, and is not repeated.
   * @param {string} topic
   * @param {any} data any JSON
   * @returns {Promise<void>}
   */
  async send(topic, data) {
    await this.#ask({ op: "send", topic, data });
  }

  /**
   * Asks the feed. Resolves with its answer; rejects with an `AskError`.
   * @param {object} data
   * @param {number} [timeout_ms] how long the server waits for the answer; 5000 by default
   * @returns {Promise<any>}
   */
  async request(data, timeout_ms) {
    return (await this.#ask({ op: "request", data, timeout_ms })).data;
  }

  // -- commands

  /** @param {{op: string} & Record<string, any>} command */
  async #ask(command) {
    if (this.state !== "open") throw new AskError("not_connected", `expected an open connection, found it ${this.state}`);
    const answer = await new Promise((resolve) => this.#link.send(command, resolve));
    if (answer.code) throw new AskError(answer.code, answer.message);
    return answer;
  }

  /** @param {Address} address */
  #resolve(address) {
    const url = new URL(address, globalThis.document?.baseURI);
    url.protocol = url.protocol.replace(/^http/, "ws");
    this.url = new URL(url);
    const pace = paceOf(this.#options);
    const { policy } = this.#options;
    if (policy) url.searchParams.set("policy", policy);
    if (pace) url.searchParams.set("every", `${pace}ms`);
    this.#interests.pace = pace;
    return url;
  }

  /** The server is told at the end of this turn, of everything at once. */
  #change() {
    if (this.#isChanged) return;
    this.#isChanged = true;
    queueMicrotask(() => {
      this.#isChanged = false;
      const { late_ms = LATE_MS + paceOf(this.#options) } = this.#options;
      this.#clock.late_ms = late_ms + (this.#link.rung?.late_ms?.(this.#options) ?? 0);
      if (this.#interests.tell()) this.#topics.retain([...this.#interests.keys()]);
      this.#subscriptions.review();
    });
  }

  /** @param {Subscription} subscription @param {any} [error] */
  #end(subscription, error) {
    if (this.#subscriptions.end(subscription, error)) this.#change();
  }

  // -- messages

  /** @param {string} text */
  #receive(text) {
    this.bytes += text.length;
    let message;
    try {
      message = this.#parse(text) ?? {};
    } catch {
      return this.#error({ op: "error", code: "bad_json", message: "expected JSON, found something else" });
    }
    this.#hear(message);
    if (!this.#link.answered(message)) {
      if (message.op !== undefined) this.#answers[message.op]?.(message);
      else if (message.topic && message.offset) this.#onFrame(message, text);
    }
    this.#judge();
  }

  /** What was said long ago and is repeated, as a current value is, tells nothing of how late this side is. @param {any} message */
  #hear({ op, offset, ts, age_ms = 0, topic, topics }) {
    const clock = this.#clock;
    clock.read(ts);
    if (SAID_NOW.has(op)) clock.heard(ts ? ts + clock.offset : clock.now() - age_ms);
    else if (ts && offset > this.#place.liveAfter) clock.heard(ts + this.delayOf(topic ?? topics?.[0] ?? "") + clock.offset);
  }

  #judge() {
    const late = this.state === "open" && this.isLate;
    if (late === this.#wasLate) return;
    this.#wasLate = late;
    this.#emit("late", { late, age_ms: this.age });
  }

  /** @param {Frame} frame @param {string} text */
  #onFrame(frame, text) {
    const { topic, offset } = frame;
    this.messages += 1;
    this.#place.advance(offset);
    const route = this.#subscriptions.of(topic);
    if (!route.length) return; // was on its way while its pattern was given back
    if (!this.#topics.take(frame, text, this.#link.number)) return;
    this.#mark(topic);
    for (const { handler, state } of route) if (state !== "ended") guard(handler, frame, offset > this.#place.liveAfter, text);
  }

  /** How one topic is doing, and why. @param {string} topic @param {string} [trouble] @param {string} [refusal] */
  #mark(topic, trouble, refusal) {
    const isNew = this.#topics.tell(topic, trouble);
    const interest = this.#interests.get(topic);
    if (interest && (refusal || interest.isInForce)) interest.refusal = refusal;
    if (isNew || refusal) this.#subscriptions.review(this.#subscriptions.of(topic));
  }

  /** @type {Record<string, (message: any, patterns?: string[], since?: string) => void>} by `op`; `patterns` were asked for */
  #answers = {
    // @ts-ignore: what an object has by birth is no message
    __proto__: null,
    welcome: (message) => {
      this.simulated = message.simulated === true;
      if (message.delay_ms !== null) this.#topics.delay(message.delay_ms); // null: not said
      this.#topics.forgive();
      if (this.#place.greeted(message)) this.#topics.clear();
      this.#link.welcomed(message.heartbeat_ms);
      this.#change();
    },
    authenticated: (message) => {
      this.identity = message;
      this.#topics.delay(message.delay_ms ?? this.#topics.delays);
      this.#link.token?.taken(message.expires_ms);
    },
    token_expiring: () => this.#link.token?.renew(),
    delayed: (message) => {
      this.#topics.delay(message.delay_ms);
      this.#subscriptions.review();
    },
    view: (message) => {
      this.#topics.delay(message.delay_ms);
      if (this.#place.turn(message)) this.#topics.clear();
      this.#topics.forgive(); // the state of the view follows
      this.#emit("view", message);
      this.#subscriptions.review();
    },
    subscribed: ({ topics = [], offset, forbidden }, patterns = topics, since) => {
      this.#interests.confirm(patterns);
      this.#place.answered(offset, since);
      this.#answers.unsubscribed({ forbidden });
    },
    unsubscribed: ({ forbidden = [] }) => {
      this.#interests.refuse(forbidden, "forbidden");
      this.#subscriptions.review();
    },
    heartbeat: ({ offset }) => this.#place.advance(offset, offset >= this.#place.liveAfter),
    skipped: (message) => {
      this.#place.isReplaying = false; // latest values follow
      this.#emit("skipped", message);
    },
    stale: (message) => this.#notice(message, message.message || message.reason),
    live: (message) => this.#notice(message),
    refused: (message) => this.#notice({ ...message, topics: [message.topic] }, message.message, message.message),
    gap: (message) => {
      this.#place.advance(message.offset);
      if (message.reason === "overflow") {
        // It stands for frames that are not sent: a snapshot and its deltas.
        this.#mark(message.topic);
        this.#topics.overflow(message.topic, message.offset);
      }
      this.#emit("gap", message);
    },
    goodbye: (message) => {
      this.#link.goodbye = message;
      this.#emit("goodbye", message);
    },
    error: (message, patterns, since) => {
      if (message.code === "bad_cursor" && since) {
        this.#emit("skipped", { op: "skipped", ...this.#place.refuse(since), reason: "bad_cursor" });
        return this.#interests.subscribe((patterns ?? []).filter((pattern) => this.#interests.has(pattern)));
      }
      const topics = patterns?.filter((pattern) => !this.#interests.get(pattern)?.isInForce);
      this.#interests.refuse(topics ?? [], message.code);
      this.#error({ ...message, topics });
      this.#subscriptions.review();
    },
  };

  /** @param {any} message */
  #error(message) {
    this.#options.logger?.warn("fanline:", message);
    this.#emit("error", message);
  }

  /** @param {any} message @param {string} [trouble] @param {string} [refusal] */
  #notice(message, trouble, refusal) {
    const { offset, op, reason, topics } = message;
    // It is about one topic, and has its place between the frames, unless nothing of that topic has ever come.
    const isOfTopic = offset !== undefined || op === "refused" || reason === "nothing_yet";
    if (offset !== undefined) this.#place.advance(offset);
    if (isOfTopic) this.#mark(topics[0], trouble, refusal);
    else {
      this.#topics.note(topics, trouble);
      this.#subscriptions.review();
    }
    this.#emit(op, message);
  }

  /** @param {string} name @param {any} event */
  #emit(name, event) {
    for (const fn of this.#events.get(name) ?? []) guard(fn, event);
  }
}

/** A handler that throws is its author's to see, and must not stop the others. @param {Function} fn @param {any[]} args */
function guard(fn, ...args) {
  try {
    fn(...args);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
