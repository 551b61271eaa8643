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

import { AskError, Unauthorized } from "./errors.js";
import { Freshness } from "./freshness.js";
import { isHidden, Link } from "./link.js";
import { TRANSITIONS } from "./machine.js";
import { checkPattern, covers, matches } from "./pattern.js";
import { ServerClock } from "./server_clock.js";
import { Staleness } from "./staleness.js";
import { Subscription } from "./subscription.js";

export { AskError, checkPattern, matches, TRANSITIONS, Unauthorized };

/**
 * `kind` only of topics that are told as a whole value and changes to it.
 * @template [Data=any]
 * @typedef {{topic: string, offset: number, ts: number, kind?: "snapshot"|"delta", data: Data, data_base64?: string}} Frame
 */
/** @typedef {import("./machine.js").State} State */
/** @typedef {import("./link.js").StateEvent} StateEvent */
/** @typedef {import("./link.js").Closed} Closed */
/** @typedef {import("./subscription.js").SubscriptionState} SubscriptionState */
/** @typedef {import("./websocket.js").Transport} Transport */
/** @typedef {import("./ladder.js").TransportName} TransportName */
/** @typedef {string | import("./token.js").TokenFunction} TokenSource */
/**
 * Type of `data` in frames of a pattern, where `Topics` is for example `` {[topic: `ticker.${string}`]: Ticker} ``.
 * @template Topics, Pattern
 * @typedef {Pattern extends keyof Topics ? Topics[Pattern] : any} DataOf
 */
/**
 * Gets every frame of a subscription. `live` is false for current values and for what is replayed after a reconnect;
 * `text` is the message as received.
 * @template [Data=any]
 * @callback Handler
 * @param {Frame<Data>} frame
 * @param {boolean} live
 * @param {string} text
 */
/** @typedef {{topics: string[], reason: string, message: string, since_ms: number, ts: number, offset?: number}} Stale */
/** @typedef {{topic: string, offset: number, ts: number, reason: string, missed?: number}} Gap */
/** @typedef {{from: number, to: number, reason: string}} Skipped */
/** @typedef {{subscription: Subscription, state: SubscriptionState, reason: string}} SubscriptionEvent */
/**
 * What `on` tells, by name.
 * @typedef {object} Events
 * @property {StateEvent} state
 * @property {SubscriptionEvent} subscription
 * @property {{late: boolean, age_ms: number}} late
 * @property {{epoch: string, offset: number, ts: number, delay_ms?: number | Record<string, number>}} view
 * @property {Stale} stale
 * @property {{topics: string[], ts: number, offset?: number}} live
 * @property {Gap} gap
 * @property {{topic: string, message: string, ts: number, offset?: number}} refused
 * @property {Skipped} skipped
 * @property {{code: string, message: string, topics?: string[]}} error
 * @property {{code: string, message: string, reconnect_ms: number}} goodbye
 */
/** @typedef {string | URL} Address of `/v1/ws`; `http:` and `https:` become `ws:` and `wss:`; relative to the page in a browser */
/**
 * @typedef {object} Options
 * @property {TokenSource} [token] who the client is; a function is asked before a token is needed
 * @property {(TransportName | Transport)[]} [transports] best first; default: `websocket`, `sse`, `longpoll`, `poll`
 * @property {"conflate"|"lossless"} [policy] what the server does when this client falls behind; default: `conflate`
 * @property {number} [every_ms] at most one update per topic and so many ms, the newest; default: every frame
 * @property {number} [hidden_every_ms] the same while the page is hidden; default: `every_ms`
 * @property {"double"|"exact"} [numbers] `exact`: integers beyond 2^53 become BigInt; default: `double`
 * @property {string} [since] cursor to resume from, as `client.cursor` gave it
 * @property {AbortSignal} [signal] ends the client
 * @property {Pick<Console, "debug"|"warn">} [logger] is told of states and errors; `console` is one
 * @property {number} [late_ms] a message that is read so much later than the server said it is late; default: 1000 and `every_ms`
 * @property {number} [backoff_ms] upper bound of the first delay before a reconnect; it doubles; default: 500
 * @property {number} [backoff_max_ms] upper bound of every delay; default: 15000
 * @property {number} [stable_ms] a connection that lasted this long makes the delays start over; default: 5000
 * @property {number} [connect_deadline_ms] an attempt without `welcome` by then has failed; default: 10000, or 3500 while there is another transport
 * @property {number} [probe_deadline_ms] a server that does not answer by then, when asked after sleep, is lost; default: 5000
 * @property {number} [token_deadline_ms] a token or URL function without an answer by then has failed; default: 10000
 * @property {number} [reprobe_ms] when a better transport is tried again, at first; doubles up to 45000; default: 5000
 * @property {number} [wait_ms] of long polls; default: 25000
 * @property {number} [poll_ms] between plain polls; default: 2000
 * @property {typeof WebSocket} [WebSocket] implementation to use; default: the global one
 * @property {typeof fetch} [fetch] implementation to use; default: the global one
 * @property {() => number} [random] in [0, 1); default: Math.random
 * @property {() => number} [clock] milliseconds since the Unix epoch; default: the monotonic clock of `performance`
 */

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

const TRANSPORTS = ["websocket", "sse", "longpoll", "poll"];
/** Messages whose `ts` is when the server sends them. */
const SAID_NOW = new Set(["welcome", "view", "heartbeat", "pong"]);
/** A second is seen by a person; a network and a busy page that are well need less. */
const LATE_MS = 1000;
/** Deltas of one topic that are kept for late subscriptions; beyond, those wait for the next snapshot. */
const CHANGES_MAX = 1000;

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

  /** @type {number | Record<string, number>} */
  #delays = 0; // ms, or by pattern, of which the first that matches counts
  #address;
  #options;
  /** @type {(text: string) => any} */
  #parse = JSON.parse;
  #link;
  /** @type {Map<string, Set<(event: any) => void>>} */
  #events = new Map();
  /** @type {Set<Subscription>} */
  #subscriptions = new Set();
  /** @type {Map<string, number>} */
  #wanted = new Map(); // pattern -> how many subscriptions use it
  /** @type {Map<string, Subscription[]>} */
  #routes = new Map(); // by topic; a memo, emptied whenever a subscription comes or goes
  /** @type {Map<string, {frame: Frame, connection: number, told: [Frame, string][]}>} */
  #latest = new Map(); // by topic, of those that a subscription covers; `told` is what
  // a late subscription gets: the newest frame, or the snapshot and the deltas since
  #staleness = new Staleness();
  #serverClock = new ServerClock();
  #freshness = new Freshness(LATE_MS);
  /** @type {Map<any, {resolve: (answer: any) => void, reject: (error: AskError) => void}>} */
  #asks = new Map(); // by id: commands to the feed without an answer
  #wasLate = false;
  #nextId = 1;
  #isChanged = false; // the subscriptions are to be told to the server
  #hasLeft = false; // some are not there any more
  /** @type {Map<number, {patterns: string[], since?: string}>} */
  #pending = new Map(); // by id: subscribe commands without an answer
  /** @type {Set<string>} */
  #sent = new Set(); // patterns asked for on this connection
  /** @type {Set<string>} */
  #inForce = new Set(); // those of them that the server has confirmed
  /** @type {Map<string, string>} */
  #refusals = new Map(); // pattern or topic -> why it is not in force, or not sent by the feed
  #pace = 0; // that the server knows, in ms
  #epoch = "";
  #head = 0; // offset of the newest frame when the server said welcome
  #offset = 0; // greatest offset seen in a frame or a heartbeat of #epoch
  /** @type {{has: (pattern: string) => boolean}} */
  #held = new Set(); // patterns for which (#epoch, #offset) is a valid cursor
  #liveAfter = 0;
  #settledBy = 0; // a frame from this offset on says that all current values have arrived
  #answered = false; // a `subscribed` has arrived on this connection
  #settled = false; // no current values are outstanding
  #caughtUp = false; // everything missed between the connections has arrived
  #isInOrder = false; // nothing but what a cursor asked for has come on this connection
  #replaying = false; // frames that arrive now may be older than the newest of their topic

  /** @param {Address | (() => Address | Promise<Address>)} url @param {Options} options */
  constructor(url, options) {
    this.#address = url;
    this.#options = {
      transports: /** @type {(TransportName | Transport)[]} */ (TRANSPORTS),
      WebSocket: globalThis.WebSocket,
      fetch: /** @type {typeof fetch} */ ((...args) => globalThis.fetch(...args)),
      backoff_ms: 500,
      backoff_max_ms: 15_000,
      stable_ms: 5_000,
      probe_deadline_ms: 5_000,
      token_deadline_ms: 10_000,
      reprobe_ms: 5_000,
      rung_deadline_ms: 3_500, // four round trips of a slow radio
      wait_ms: 25_000,
      poll_ms: 2_000,
      random: Math.random,
      clock: () => performance.timeOrigin + performance.now(),
      ...options,
    };
    const { transports, since, signal, logger } = this.#options;
    for (const it of transports) if (typeof it === "string" && !TRANSPORTS.includes(it)) throw new TypeError(`expected one of ${TRANSPORTS}, found \`${it}\``);
    if (String(transports) === "websocket" && !this.#options.WebSocket) {
      throw new TypeError("expected a global WebSocket, found none; pass one as options.WebSocket");
    }
    if (since) {
      this.#goTo(since);
      this.#held = { has: () => true };
    }
    /** @type {(closed: Closed) => void} */
    let resolve;
    this.closed = new Promise((it) => (resolve = it));
    if (typeof url !== "function") this.#resolve(url);
    this.#link = new Link(this.#options, {
      url: async () => {
        if (options.numbers === "exact") this.#parse = (await import("./numbers.js")).parseExact;
        return this.#resolve(typeof url === "function" ? await url() : url);
      },
      onOpen: (token) => this.#open(token),
      onToken: (token) => this.#show(token),
      onText: (text) => this.#receive(text),
      onLost: (cursor) => this.#lost(cursor),
      onState: (event) => {
        logger?.debug("fanline:", event);
        this.#emit("state", event);
        this.#review();
      },
      onClosed: (closed) => {
        signal?.removeEventListener("abort", abort);
        const error = closed.terminal ? new Error(`closed: ${closed.reason} (${closed.code})`) : undefined;
        for (const subscription of [...this.#subscriptions]) this.#end(subscription, error);
        resolve(closed);
      },
      probe: (token) => [
        { op: "auth", token },
        { op: "subscribe", topics: [...this.#wanted.keys()].slice(0, 1), since: this.cursor },
      ],
      onPing: () => this.#ping(),
      onBeat: () => this.#judge(),
      onDoubt: () => {
        this.#freshness.doubt(this.now());
        this.#judge();
      },
      onLook: () => this.#change(),
    });
    const abort = () => this.close();
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
    return this.#epoch && this.#settled ? `${this.#epoch}:${this.#offset}` : undefined;
  }

  /** Up to where it has heard, for those that it shares its connection with. @internal */
  get place() {
    return { epoch: this.#epoch, offset: Math.max(this.#offset, this.#liveAfter), isSettled: this.#settled };
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
  subscribe(topics, handler, options) {
    return this.#subscribe([topics].flat(), handler, options?.signal);
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
  async *frames(topics, { buffer = "latest", signal } = {}) {
    const { Frames } = await import("./frames.js");
    const frames = new Frames(buffer);
    const push = (/** @type {Frame} */ frame) => frames.push(frame);
    const subscription = this.#subscribe([topics].flat(), push, signal, (error) => frames.end(error));
    try {
      for (let frame; (frame = await frames.next()); ) yield frame;
    } finally {
      subscription.unsubscribe();
    }
  }

  /** @param {readonly string[]} topics @param {Handler} handler @param {AbortSignal} [signal] @param {(error?: any) => void} [onEnd] */
  #subscribe(topics, handler, signal, onEnd) {
    const patterns = [...new Set(topics)];
    for (const pattern of patterns) {
      const wrong = checkPattern(pattern);
      if (wrong) throw new TypeError(wrong);
    }
    const subscription = new Subscription(patterns, handler, (it) => this.#end(it), signal, onEnd);
    this.#subscriptions.add(subscription);
    this.#routes.clear();
    for (const pattern of patterns) this.#wanted.set(pattern, (this.#wanted.get(pattern) ?? 0) + 1);
    for (const { told } of [...this.#latest.values()]) {
      for (const [frame, text] of [...told]) if (covers(patterns, frame.topic)) guard(handler, frame, false, text);
    }
    if (this.state === "closed" || signal?.aborted) subscription.unsubscribe();
    this.#change();
    return subscription;
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
    const known = this.#latest.get(topic);
    if (this.state !== "open" || !known || this.isStale(topic) || this.isLate) return false;
    return this.#caughtUp || (known.connection === this.#link.number && !this.#replaying);
  }

  /** Whether the server has said that values of `topic` may be outdated, or that it is refused. @param {string} topic */
  isStale(topic) {
    return this.#staleness.covers(topic);
  }

  /**
   * Whether what is known is too old to be called current: messages are read long after the server said them (this side
   * or the line cannot keep up, or was frozen), or the server was not heard for 4 s although it was asked.
   */
  get isLate() {
    return this.#freshness.isLate(this.now());
  }

  /** Whether the server was not heard for 4 s although it was asked, or the browser says that there is no network. */
  get isSilent() {
    return this.#freshness.isSilent(this.now());
  }

  /** How late the newest message was when it was read, in ms by the server's clock. */
  get lateness() {
    return this.#freshness.lateness;
  }

  /** Milliseconds since the server said the newest thing that this client knows; NaN before the first. */
  get age() {
    return this.#freshness.age(this.now());
  }

  /** How much later than received the server sends messages of `topic`, in ms; 0 if they are live. @param {string} topic */
  delayOf(topic) {
    if (typeof this.#delays === "number") return this.#delays;
    return Object.entries(this.#delays).find(([pattern]) => matches(pattern, topic))?.[1] ?? 0;
  }

  /** Whether values of `topic` are older than the feed's by intention. @param {string} topic */
  isDelayed(topic) {
    return this.delayOf(topic) > 0;
  }

  /** Whether a subscription has the pattern. @internal @param {string} pattern */
  isWanted(pattern) {
    return this.#wanted.has(pattern);
  }

  /** Whether the server has confirmed the pattern. @internal @param {string} pattern */
  isInForce(pattern) {
    return this.#inForce.has(pattern);
  }

  /** Delays by pattern, or of all topics. @internal */
  get delays() {
    return this.#delays;
  }

  /** The longest delay of any topic, in ms; 0 if all are live. */
  get delay() {
    return typeof this.#delays === "number" ? this.#delays : Math.max(0, ...Object.values(this.#delays));
  }

  /**
   * The newest frame received of `topic`.
   * @template {string} Topic
   * @param {Topic} topic
   * @returns {Frame<DataOf<Topics, Topic>> | undefined}
   */
  latest(topic) {
    return this.#latest.get(topic)?.frame;
  }

  /** Topics of which a value is known. @returns {string[]} */
  get topics() {
    return [...this.#latest.keys()];
  }

  /** Whether everything that this client missed, if anything, has arrived. */
  get caughtUp() {
    return this.#caughtUp;
  }

  /** This client's clock minus the server's in ms; NaN before the first welcome. Good to half of `roundTrip`. */
  get clockOffset() {
    return this.#serverClock.offset;
  }

  /** Shortest recent round trip to the server in ms; NaN before the first answer to a ping. */
  get roundTrip() {
    return this.#serverClock.roundTrip;
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
    this.#link.reconnect();
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
  async #ask({ op, ...members }) {
    if (this.state !== "open") throw new AskError("not_connected", `expected an open connection, found it ${this.state}`);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#asks.set(id, { resolve, reject });
      this.#link.send({ op, id, ...members });
    });
  }

  /** @param {Address} address */
  #resolve(address) {
    const url = new URL(address, globalThis.document?.baseURI);
    url.protocol = url.protocol.replace(/^http/, "ws");
    this.url = new URL(url);
    const { policy } = this.#options;
    this.#pace = this.#wantedPace;
    if (policy) url.searchParams.set("policy", policy);
    if (this.#pace) url.searchParams.set("every", `${this.#pace}ms`);
    return url;
  }

  get #wantedPace() {
    const { every_ms = 0, hidden_every_ms = 0 } = this.#options;
    return Math.max(every_ms, isHidden() ? hidden_every_ms : 0);
  }

  /** @param {string | undefined} token */
  #show(token) {
    if (token) this.#link.send({ op: "auth", id: this.#nextId++, token });
  }

  /** @param {string | undefined} token */
  #open(token) {
    const since = this.#epoch && `${this.#epoch}:${this.#offset}`;
    const wanted = [...this.#wanted.keys()];
    const resumed = since ? wanted.filter((pattern) => this.#held.has(pattern)) : [];
    [this.#liveAfter, this.#replaying] = [0, resumed.length > 0];
    this.#show(token);
    this.#sendSubscribe(resumed, since || undefined);
    this.#sendSubscribe(wanted.filter((pattern) => !since || !this.#held.has(pattern)));
  }

  /** @param {string[]} topics @param {string} [since] */
  #sendSubscribe(topics, since) {
    if (!topics.length) return;
    const id = this.#nextId++;
    const pace = this.#wantedPace;
    const every_ms = pace === this.#pace ? undefined : pace;
    this.#pace = pace;
    this.#pending.set(id, { patterns: topics, since });
    for (const pattern of topics) {
      this.#sent.add(pattern);
      this.#refusals.delete(pattern);
    }
    this.#link.send({ op: "subscribe", id, topics, since, every_ms });
  }

  /** The server is told at the end of this turn, of everything at once. */
  #change() {
    if (this.#isChanged) return;
    this.#isChanged = true;
    queueMicrotask(() => {
      this.#isChanged = false;
      this.#tell();
      this.#review();
    });
  }

  #tell() {
    const wanted = [...this.#wanted.keys()];
    if (this.#hasLeft) {
      this.#hasLeft = false;
      for (const topic of this.#latest.keys()) if (!covers(wanted, topic)) this.#latest.delete(topic);
      this.#staleness.retain((topic) => covers(wanted, topic));
    }
    const { late_ms = LATE_MS + this.#wantedPace } = this.#options;
    this.#freshness.late_ms = late_ms + this.#link.late_ms;
    if (!this.#link.isUsable) return;
    const unused = [...this.#sent].filter((pattern) => !this.#wanted.has(pattern));
    for (const pattern of unused) this.#sent.delete(pattern);
    const given = unused.filter((pattern) => !this.#refusals.has(pattern));
    for (const pattern of unused) [this.#refusals, this.#inForce].forEach((it) => it.delete(pattern));
    if (given.length) this.#link.send({ op: "unsubscribe", id: this.#nextId++, topics: given });
    const fresh = wanted.filter((pattern) => !this.#sent.has(pattern));
    // Naming a pattern again changes nothing but the pace.
    if (!fresh.length && this.#wantedPace !== this.#pace) fresh.push(...[...this.#inForce].slice(0, 1));
    this.#sendSubscribe(fresh);
  }

  /** @param {Subscription} subscription @param {any} [error] */
  #end(subscription, error) {
    if (!this.#subscriptions.delete(subscription)) return;
    this.#hasLeft = true;
    this.#routes.clear();
    for (const pattern of subscription.patterns) {
      const users = (this.#wanted.get(pattern) ?? 0) - 1;
      if (users) this.#wanted.set(pattern, users);
      else this.#wanted.delete(pattern);
    }
    subscription.onEnd?.(error);
    this.#turn(subscription, "ended", error?.message ?? "");
    this.#change();
  }

  #ping() {
    if (this.state !== "open") return;
    const id = this.#nextId++;
    this.#serverClock.asked(id, this.now());
    this.#link.send({ op: "ping", id });
  }

  // -- messages

  /** @param {string} text */
  #receive(text) {
    this.bytes += text.length;
    let message;
    try {
      message = this.#parse(text);
    } catch {
      return this.#error({ op: "error", code: "bad_json", message: "expected JSON, found something else" });
    }
    this.#hear(message ?? {});
    const ask = this.#asks.get(message?.id);
    if (ask) {
      this.#asks.delete(message.id);
      if (message.op === "error") ask.reject(new AskError(message.code, message.message));
      else ask.resolve(message);
    } else if (message?.op !== undefined) this.#answers[message.op]?.(message);
    else if (message?.topic && message.offset) this.#onFrame(message, text);
    this.#judge();
  }

  /** What was said long ago and is repeated, as a current value is, tells nothing of how late this side is. @param {any} message */
  #hear({ op, offset, ts, age_ms = 0, topic, topics }) {
    const now = this.now();
    if (ts) this.#serverClock.heard(now, ts);
    if (SAID_NOW.has(op)) this.#freshness.heard(now, ts ? ts + this.clockOffset : now - age_ms);
    else if (ts && offset > this.#liveAfter) {
      this.#freshness.heard(now, ts + this.delayOf(topic ?? topics?.[0] ?? "") + this.clockOffset);
    }
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
    const known = this.#latest.get(topic);
    this.#advance(offset, offset >= this.#settledBy);
    if (known && known.frame.offset >= offset) {
      known.connection = this.#link.number; // sent again after a reconnect: nothing new, but now confirmed
      return;
    }
    let route = this.#routes.get(topic);
    if (!route) {
      route = [...this.#subscriptions].filter(({ patterns }) => covers(patterns, topic));
      this.#routes.set(topic, route);
    }
    if (!route.length) return; // was on its way while its pattern was given back
    this.#mark(topic);
    this.#latest.set(topic, { frame, connection: this.#link.number, told: told(known?.told, frame, text) });
    for (const { handler, state } of route) if (state !== "ended") guard(handler, frame, offset > this.#liveAfter, text);
  }

  /** How one topic is doing, and why. @param {string} topic @param {string} [trouble] @param {string} [refusal] */
  #mark(topic, trouble, refusal) {
    const changes = this.#staleness.tell(topic, trouble) || (!this.#inForce.has(topic) ? false : this.#refusals.has(topic));
    if (refusal) this.#refusals.set(topic, refusal);
    else if (this.#inForce.has(topic)) this.#refusals.delete(topic);
    if (changes || refusal) this.#review(topic);
  }

  /** @param {number} offset @param {boolean} settles */
  #advance(offset, settles) {
    if (offset > this.#offset) this.#offset = offset;
    if (settles && this.#answered && !this.#settled) this.#settle();
  }

  #settle() {
    this.#settled = this.#caughtUp = true;
    if (!this.#replaying) return;
    this.#replaying = false;
    this.#review();
  }

  /** @param {string} cursor */
  #goTo(cursor) {
    const [epoch, offset] = cursor.split(":");
    [this.#epoch, this.#offset] = [epoch, Number(offset)];
  }

  /** All values are to be forgotten: other offsets follow. @param {string} epoch */
  #begin(epoch) {
    [this.#epoch, this.#offset] = [epoch, 0];
    this.#latest.clear();
    this.#staleness.retain(() => false);
  }

  /** @type {Record<string, (message: any) => void>} */
  #answers = {
    // @ts-ignore: what an object has by birth is no message
    __proto__: null,
    welcome: (message) => {
      this.#head = message.offset;
      this.simulated = message.simulated === true;
      this.#delays = message.delay_ms ?? 0;
      this.#staleness.clear();
      if (message.epoch !== this.#epoch) this.#begin(message.epoch);
      this.#link.welcomed(message.heartbeat_ms);
      this.#freshness.heardWithin(this.#link.isDuplex ? undefined : this.#link.silent_ms);
      this.#change();
      this.#ping();
    },
    authenticated: (message) => {
      this.identity = message;
      this.#delays = message.delay_ms ?? this.#delays;
      this.#link.tokenTaken(message.expires_ms);
    },
    token_expiring: () => this.#link.renewToken(),
    view: (message) => {
      this.#delays = message.delay_ms ?? 0;
      // In the same log it continues, unless the view is behind what this client has.
      const anew = message.epoch !== this.#epoch || message.offset < this.#offset;
      if (anew) this.#begin(message.epoch);
      this.#staleness.clear(); // the state of the view follows
      [this.#head, this.#liveAfter, this.#replaying] = [message.offset, 0, !anew];
      this.#answered = this.#settled = this.#caughtUp = false;
      this.#emit("view", message);
      this.#review();
    },
    subscribed: ({ id, topics = [], offset, forbidden = [] }) => {
      const command = this.#pending.get(id);
      this.#pending.delete(id);
      for (const pattern of command?.patterns ?? topics) if (this.#sent.has(pattern)) this.#permit(pattern);
      this.#forbid(forbidden);
      this.#liveAfter = Math.max(this.#liveAfter, offset);
      // What follows the first answer comes in order; what follows another is told from the live stream by a later one.
      this.#isInOrder = !this.#answered && !!command?.since;
      this.#settledBy = this.#answered ? this.#liveAfter + 1 : this.#liveAfter;
      this.#answered = true;
      this.#settled = false;
      if (offset === 0 || (command?.since && offset <= this.#offset)) this.#settle();
      this.#review();
    },
    unsubscribed: ({ forbidden = [] }) => {
      this.#forbid(forbidden);
      this.#review();
    },
    heartbeat: ({ offset }) => this.#advance(offset, offset >= this.#liveAfter),
    pong: (message) => {
      if (this.#serverClock.answered(message, this.now())) this.#ping();
    },
    skipped: (message) => {
      this.#replaying = false; // latest values follow
      this.#emit("skipped", message);
    },
    stale: (message) => this.#notice(message, message.message || message.reason),
    live: (message) => this.#notice(message),
    refused: (message) => this.#notice({ ...message, topics: [message.topic] }, message.message, message.message),
    gap: (message) => {
      this.#advance(message.offset, message.offset >= this.#settledBy);
      if (message.reason === "overflow") {
        // It stands for frames that are not sent: a snapshot and its deltas.
        this.#mark(message.topic);
        const known = this.#latest.get(message.topic);
        if (known && known.frame.offset < message.offset) known.told = [];
      }
      this.#emit("gap", message);
    },
    goodbye: (message) => {
      this.#link.farewell(message);
      this.#emit("goodbye", message);
    },
    error: (message) => {
      const command = this.#pending.get(message.id);
      this.#pending.delete(message.id);
      if (message.code === "bad_cursor" && command?.since) {
        const from = Math.min(Number(command.since.split(":")[1]), this.#head) + 1;
        [this.#replaying, this.#offset] = [false, 0];
        this.#emit("skipped", { op: "skipped", from, to: this.#head, reason: "bad_cursor" });
        this.#sendSubscribe(command.patterns.filter((pattern) => this.#wanted.has(pattern)));
        return;
      }
      const refused = command?.patterns.filter((pattern) => !this.#inForce.has(pattern));
      for (const pattern of refused ?? []) this.#refusals.set(pattern, message.code);
      this.#error({ ...message, topics: refused });
      this.#review();
    },
  };

  /** @param {any} message */
  #error(message) {
    this.#options.logger?.warn("fanline:", message);
    this.#emit("error", message);
  }

  /** @param {string} pattern */
  #permit(pattern) {
    this.#inForce.add(pattern);
    this.#refusals.delete(pattern);
  }

  /** @param {string[]} patterns */
  #forbid(patterns) {
    for (const pattern of patterns) {
      this.#inForce.delete(pattern);
      this.#refusals.set(pattern, "forbidden");
    }
  }

  /** @param {string} [cursor] where to go on */
  #lost(cursor) {
    // Current values that were still to come are not covered by the cursor: then the next connection starts over.
    if (this.#answered) this.#held = cursor || this.#settled || this.#isInOrder ? new Set(this.#inForce) : new Set();
    if (this.#answered && cursor) this.#goTo(cursor);
    this.#answered = this.#settled = this.#caughtUp = false;
    for (const set of [this.#sent, this.#inForce, this.#refusals, this.#pending]) set.clear();
    for (const { reject } of this.#asks.values()) {
      reject(new AskError("connection_lost", "the connection ended before the answer came"));
    }
    this.#asks.clear();
    this.#serverClock.lost();
  }

  /** @param {any} message @param {string} [trouble] @param {string} [refusal] */
  #notice(message, trouble, refusal) {
    const { offset, op, reason, topics } = message;
    // It is about one topic, and has its place between the frames, unless nothing of that topic has ever come.
    const isOfTopic = offset !== undefined || op === "refused" || reason === "nothing_yet";
    if (offset !== undefined) this.#advance(offset, offset >= this.#settledBy);
    if (isOfTopic) this.#mark(topics[0], trouble, refusal);
    else {
      this.#staleness.note(topics, trouble);
      this.#review();
    }
    this.#emit(op, message);
  }

  // -- what is told to the user

  /** Looks at the states of the subscriptions, or of those to one topic only. @param {string} [topic] */
  #review(topic) {
    for (const it of [...this.#subscriptions]) {
      if (topic === undefined || (it.patterns.length === 1 && it.patterns[0] === topic)) this.#turn(it, ...this.#stateOf(it));
    }
  }

  /** @param {Subscription} it @returns {[SubscriptionState, string?]} */
  #stateOf(it) {
    const { patterns } = it;
    const [refusal] = patterns.map((pattern) => this.#refusals.get(pattern));
    if (refusal && patterns.every((pattern) => this.#refusals.has(pattern))) return ["refused", refusal];
    const isInForce = patterns.every((pattern) => this.#inForce.has(pattern) || this.#refusals.has(pattern));
    it.wasInForce ||= isInForce;
    if (!it.wasInForce) return ["pending"];
    if (this.state !== "open") return ["stale", "not connected"];
    if (!isInForce || this.#replaying) return ["stale", "catching up"];
    if (patterns.every((pattern) => this.isStale(pattern))) return ["stale", this.#staleness.reason(patterns[0])];
    return [patterns.some((pattern) => this.isDelayed(pattern)) ? "delayed" : "live"];
  }

  /** @param {Subscription} subscription @param {SubscriptionState} state @param {string} [reason] */
  #turn(subscription, state, reason = "") {
    if (state === subscription.state && reason === subscription.reason) return;
    [subscription.state, subscription.reason] = [state, reason];
    this.#emit("subscription", { subscription, state, reason });
  }

  /** @param {string} name @param {any} event */
  #emit(name, event) {
    for (const fn of this.#events.get(name) ?? []) guard(fn, event);
  }
}

/** What a late subscription gets of a topic, after `frame`; `before` is what it was. @param {[Frame, string][] | undefined} before @param {Frame} frame @param {string} text @returns {[Frame, string][]} */
function told(before, frame, text) {
  if (frame.kind !== "delta") return [[frame, text]];
  if (before?.[0]?.[0].kind !== "snapshot" || before.length > CHANGES_MAX) return [];
  before.push([frame, text]);
  return before;
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
