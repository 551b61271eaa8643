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

import { Freshness } from "./freshness.js";
import { Link } from "./link.js";
import { checkPattern, covers, matches } from "./pattern.js";
import { ServerClock } from "./server_clock.js";
import { Staleness } from "./staleness.js";

export { checkPattern, matches };

/**
 * `kind` only of topics that are told as a whole value and changes to it.
 * @typedef {{topic: string, offset: number, ts: number, kind?: "snapshot"|"delta", data?: any, data_base64?: string}} Frame
 */
/** @typedef {"connecting"|"open"|"waiting"|"closed"} State */
/**
 * Gets every frame of a subscription. `live` is false for current values and for what is replayed after a reconnect;
 * `text` is the message as received, for numbers that do not fit a double.
 * @callback Handler
 * @param {Frame} frame
 * @param {boolean} live
 * @param {string} text
 */
/**
 * @typedef {object} Options
 * @property {typeof WebSocket} [WebSocket] implementation to use; default: the global one
 * @property {"conflate"|"lossless"} [policy] what the server does when this client falls behind; default: `conflate`
 * @property {number} [every_ms] at most one update per topic and so many ms, the newest; default: every frame
 * @property {number} [late_ms] a message that is read so much later than the server said it is late; default: 1000 and `every_ms`
 * @property {number} [backoff_ms] upper bound of the first delay before a reconnect; it doubles; default: 500
 * @property {number} [backoff_max_ms] upper bound of every delay; default: 15000
 * @property {() => number} [random] in [0, 1); default: Math.random
 * @property {() => number} [clock] milliseconds since the Unix epoch; default: the monotonic clock of `performance`
 */

/**
 * Opens a connection that keeps itself up until `close()`.
 * @param {string|URL} url of `/v1/ws`; `http:` and `https:` become `ws:` and `wss:`; relative to the page in a browser
 * @param {Options} [options]
 */
export function connect(url, options = {}) {
  return new Client(url, options);
}

/** Messages whose `ts` is when the server sends them. */
const SAID_NOW = new Set(["welcome", "view", "heartbeat", "pong"]);
/** A second is seen by a person; a network and a busy page that are well need less. */
const LATE_MS = 1000;
/** Deltas of one topic that are kept for late subscriptions; beyond, those wait for the next snapshot. */
const CHANGES_MAX = 1000;

/** What `subscribe` returns. */
class Subscription {
  #leave;
  constructor(patterns, handler, leave) {
    /** @readonly @type {readonly string[]} */
    this.patterns = patterns;
    this.handler = handler;
    this.#leave = leave;
  }
  /** Ends it; the handler is not called again. Patterns that nobody else uses are given back to the server. */
  unsubscribe() {
    this.#leave(this);
  }
}

class Client {
  /** Data frames received, and the characters of all messages received (before WebSocket compression). */
  messages = 0;
  bytes = 0;
  /** Whether the server has said that its prices are invented. */
  simulated = false;

  #delays = 0; // ms, or by pattern, of which the first that matches counts
  #options;
  #link;
  #events = new Map();
  #subscriptions = new Set();
  #wanted = new Map(); // pattern -> how many subscriptions use it
  #routes = new Map(); // topic -> subscriptions; a memo, emptied whenever a subscription comes or goes
  #latest = new Map(); // topic -> { frame, text, connection, told }, of topics that a subscription covers; `told` is what
  // a late subscription gets: [frame, text] of the newest frame, or of the snapshot and the deltas since
  #staleness = new Staleness();
  #serverClock = new ServerClock();
  #freshness;
  #wasLate = false;
  #nextId = 1;
  #pending = new Map(); // id -> { patterns, since } of subscribe commands without an answer
  #sent = new Set(); // patterns in force on this connection
  #epoch = "";
  #head = 0; // offset of the newest frame when the server said welcome
  #offset = 0; // greatest offset seen in a frame or a heartbeat of #epoch
  #held = new Set(); // patterns for which (#epoch, #offset) is a valid cursor
  #liveAfter = 0;
  #settledBy = 0; // a frame from this offset on says that all current values have arrived
  #answered = false; // a `subscribed` has arrived on this connection
  #settled = false; // no current values are outstanding
  #caughtUp = false; // everything missed between the connections has arrived
  #replaying = false; // frames that arrive now may be older than the newest of their topic

  constructor(url, options) {
    const base = globalThis.document?.baseURI;
    this.url = new URL(url, base);
    this.url.protocol = this.url.protocol.replace(/^http/, "ws");
    if (options.policy) this.url.searchParams.set("policy", options.policy);
    if (options.every_ms) this.url.searchParams.set("every", `${options.every_ms}ms`);
    this.#options = {
      WebSocket: globalThis.WebSocket,
      backoff_ms: 500,
      backoff_max_ms: 15_000,
      random: Math.random,
      clock: () => performance.timeOrigin + performance.now(),
      ...options,
    };
    if (!this.#options.WebSocket) {
      throw new TypeError("expected a global WebSocket, found none; pass one as options.WebSocket");
    }
    this.#freshness = new Freshness(options.late_ms ?? LATE_MS + (options.every_ms ?? 0));
    this.#link = new Link(this.url, this.#options, {
      onText: (text) => this.#receive(text),
      onLost: () => this.#lost(),
      onState: (event) => this.#emit("state", event),
      onPing: () => this.#ping(),
      onBeat: () => this.#judge(),
      onDoubt: () => {
        this.#freshness.doubt(this.now());
        this.#judge();
      },
    });
    this.#link.start();
  }

  /** @returns {State} */
  get state() {
    return this.#link.state;
  }

  /**
   * Registers for an event and returns the function that ends it:
   * `state` ({state, reason, retry_ms}), `late` ({late, age_ms}) whenever `isLate` changes, and the server's own messages
   * `stale`, `live`, `gap`, `refused`, `skipped`, `view`, `error`, `goodbye`.
   * @param {"state"|"late"|"view"|"stale"|"live"|"gap"|"refused"|"skipped"|"error"|"goodbye"} name
   * @param {(event: any) => void} fn
   */
  on(name, fn) {
    if (!this.#events.has(name)) this.#events.set(name, new Set());
    this.#events.get(name).add(fn);
    return () => this.#events.get(name).delete(fn);
  }

  /**
   * Subscribes to patterns; throws a TypeError that names the first one that is none. The handler first gets the
   * current values: those known here before this returns, the others when the server sends them.
   * @param {string|string[]} topics
   * @param {Handler} handler
   */
  subscribe(topics, handler) {
    const patterns = [...new Set([topics].flat())];
    for (const pattern of patterns) {
      const wrong = checkPattern(pattern);
      if (wrong) throw new TypeError(wrong);
    }
    const subscription = new Subscription(patterns, handler, (it) => this.#unsubscribe(it));
    this.#subscriptions.add(subscription);
    this.#routes.clear();
    for (const pattern of patterns) this.#wanted.set(pattern, (this.#wanted.get(pattern) ?? 0) + 1);
    for (const { told } of [...this.#latest.values()]) {
      for (const [frame, text] of [...told]) if (covers(patterns, frame.topic)) guard(handler, frame, false, text);
    }
    if (this.state === "open") this.#sendSubscribe(patterns.filter((pattern) => !this.#sent.has(pattern)));
    return subscription;
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

  /** The longest delay of any topic, in ms; 0 if all are live. */
  get delay() {
    return typeof this.#delays === "number" ? this.#delays : Math.max(0, ...Object.values(this.#delays));
  }

  /** The newest frame received of `topic`. @param {string} topic @returns {Frame|undefined} */
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
    this.#loseAsks();
  }

  // -- commands

  #sendSubscribe(patterns, since) {
    if (!patterns.length) return;
    const id = this.#nextId++;
    this.#pending.set(id, { patterns, since });
    for (const pattern of patterns) this.#sent.add(pattern);
    this.#link.send({ op: "subscribe", id, topics: patterns, since });
  }

  #unsubscribe(subscription) {
    if (!this.#subscriptions.delete(subscription)) return;
    this.#routes.clear();
    const unused = [];
    for (const pattern of subscription.patterns) {
      const users = this.#wanted.get(pattern) - 1;
      if (users) this.#wanted.set(pattern, users);
      else this.#wanted.delete(pattern);
      if (!users && this.#sent.delete(pattern)) unused.push(pattern);
    }
    if (unused.length) this.#link.send({ op: "unsubscribe", id: this.#nextId++, topics: unused });
    const wanted = [...this.#wanted.keys()];
    for (const topic of this.#latest.keys()) if (!covers(wanted, topic)) this.#latest.delete(topic);
    this.#staleness.retain((topic) => covers(wanted, topic));
  }

  #ping() {
    if (this.state !== "open") return;
    const id = this.#nextId++;
    this.#serverClock.asked(id, this.now());
    this.#link.send({ op: "ping", id });
  }

  // -- messages

  #receive(text) {
    this.bytes += text.length;
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return this.#emit("error", { op: "error", code: "bad_json", message: "expected JSON, found something else" });
    }
    if (message.ts) this.#hear(message);
    if (message.op === undefined) this.#onFrame(message, text);
    else if (!this.#onAskAnswered(message)) this.#answers[message.op]?.(message);
    this.#judge();
  }

  /** What was said long ago and is repeated, as a current value is, tells nothing of how late this side is. */
  #hear({ op, offset, ts, topic, topics }) {
    const now = this.now();
    this.#serverClock.heard(now, ts);
    if (SAID_NOW.has(op)) this.#freshness.heard(now, ts + this.clockOffset);
    else if (offset > this.#liveAfter) this.#freshness.heard(now, ts + this.delayOf(topic ?? topics?.[0] ?? "") + this.clockOffset);
  }

  #judge() {
    const late = this.state === "open" && this.isLate;
    if (late === this.#wasLate) return;
    this.#wasLate = late;
    this.#emit("late", { late, age_ms: this.age });
  }

  #onFrame(frame, text) {
    this.messages += 1;
    const known = this.#latest.get(frame.topic);
    this.#advance(frame.offset, frame.offset >= this.#settledBy);
    if (known && known.frame.offset >= frame.offset) {
      known.connection = this.#link.number; // sent again after a reconnect: nothing new, but now confirmed
      return;
    }
    let route = this.#routes.get(frame.topic);
    if (!route) {
      route = [...this.#subscriptions].filter(({ patterns }) => covers(patterns, frame.topic));
      this.#routes.set(frame.topic, route);
    }
    if (!route.length) return; // was on its way while its pattern was given back
    this.#staleness.tell(frame.topic, false);
    this.#latest.set(frame.topic, { frame, text, connection: this.#link.number, told: told(known?.told, frame, text) });
    for (const { handler } of route) guard(handler, frame, frame.offset > this.#liveAfter, text);
  }

  #advance(offset, settles) {
    if (offset > this.#offset) this.#offset = offset;
    if (settles && this.#answered && !this.#settled) this.#settle();
  }

  #settle() {
    this.#settled = this.#caughtUp = true;
    this.#replaying = false;
  }

  #answers = {
    welcome: (message) => {
      const since = this.#epoch && `${this.#epoch}:${this.#offset}`;
      const wanted = [...this.#wanted.keys()];
      const resumed = since ? wanted.filter((pattern) => this.#held.has(pattern)) : [];
      this.#head = message.offset;
      this.simulated = message.simulated === true;
      this.#delays = message.delay_ms ?? 0;
      this.#staleness.clear();
      if (message.epoch !== this.#epoch) {
        [this.#epoch, this.#offset] = [message.epoch, 0];
        this.#latest.clear();
        this.#staleness.retain(() => false);
      }
      [this.#liveAfter, this.#replaying] = [0, resumed.length > 0];
      this.#sendSubscribe(resumed, since || undefined);
      this.#sendSubscribe(wanted.filter((pattern) => !resumed.includes(pattern)));
      this.#link.welcomed(message.heartbeat_ms);
      this.#ping();
    },
    view: (message) => {
      this.#delays = message.delay_ms ?? 0;
      // In the same log it continues, unless the view is behind what this client has.
      const anew = message.epoch !== this.#epoch || message.offset < this.#offset;
      if (anew) {
        [this.#epoch, this.#offset] = [message.epoch, 0];
        this.#latest.clear();
        this.#staleness.retain(() => false);
      }
      this.#staleness.clear(); // the state of the view follows
      [this.#head, this.#liveAfter, this.#replaying] = [message.offset, 0, !anew];
      this.#answered = this.#settled = this.#caughtUp = false;
      this.#emit("view", message);
    },
    subscribed: ({ id, offset }) => {
      const resumed = this.#pending.get(id)?.since !== undefined;
      this.#pending.delete(id);
      this.#liveAfter = Math.max(this.#liveAfter, offset);
      // What follows the first answer comes in order; what follows another is told from the live stream by a later one.
      this.#settledBy = this.#answered ? this.#liveAfter + 1 : this.#liveAfter;
      this.#answered = true;
      this.#settled = false;
      if (offset === 0 || (resumed && offset <= this.#offset)) this.#settle();
    },
    heartbeat: ({ offset }) => this.#advance(offset, offset >= this.#liveAfter),
    pong: (message) => {
      if (this.#serverClock.answered(message, this.now())) this.#ping();
    },
    skipped: (message) => {
      this.#replaying = false; // latest values follow
      this.#emit("skipped", message);
    },
    stale: (message) => this.#notice(message, true),
    live: (message) => this.#notice(message, false),
    refused: (message) => this.#notice({ ...message, topics: [message.topic] }, true),
    gap: (message) => {
      this.#advance(message.offset, message.offset >= this.#settledBy);
      if (message.reason === "overflow") {
        // It stands for frames that are not sent: a snapshot and its deltas.
        this.#staleness.tell(message.topic, false);
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
      const refused = this.#pending.get(message.id);
      this.#pending.delete(message.id);
      for (const pattern of refused?.patterns ?? []) this.#sent.delete(pattern);
      if (message.code === "bad_cursor" && refused?.since) {
        const from = Math.min(Number(refused.since.split(":")[1]), this.#head) + 1;
        [this.#replaying, this.#offset] = [false, 0];
        this.#emit("skipped", { op: "skipped", from, to: this.#head, reason: "bad_cursor" });
        this.#sendSubscribe(refused.patterns.filter((pattern) => this.#wanted.has(pattern)));
        return;
      }
      this.#emit("error", { ...message, topics: refused?.patterns });
    },
  };

  #lost() {
    // Current values that were still to come are not covered by the cursor: then the next connection starts over.
    if (this.#answered) this.#held = this.#settled && !this.#pending.size ? new Set(this.#sent) : new Set();
    this.#answered = this.#settled = this.#caughtUp = false;
    this.#sent.clear();
    this.#pending.clear();
    this.#loseAsks();
    this.#serverClock.lost();
  }

  #notice(message, stale) {
    // It is about one topic, and has its place between the frames, unless nothing of that topic has ever come.
    const isOfTopic = message.offset !== undefined || message.op === "refused" || message.reason === "nothing_yet";
    if (message.offset !== undefined) this.#advance(message.offset, message.offset >= this.#settledBy);
    if (isOfTopic) this.#staleness.tell(message.topics[0], stale);
    else this.#staleness.note(message.topics, stale);
    this.#emit(message.op, message);
  }

  #emit(name, event) {
    for (const fn of this.#events.get(name) ?? []) guard(fn, event);
  }

  // -- what is said to the feed

  #asks = new Map(); // id -> { resolve, reject } of send and request commands without an answer

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
    const answer = await this.#ask({ op: "request", data, timeout_ms });
    return answer.data;
  }

  #ask({ op, ...members }) {
    if (this.state !== "open") {
      return Promise.reject(new AskError("not_connected", `expected an open connection, found it ${this.state}`));
    }
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#asks.set(id, { resolve, reject });
      this.#link.send({ op, id, ...members });
    });
  }

  /** Whether the message answers an ask. */
  #onAskAnswered(message) {
    const ask = this.#asks.get(message.id);
    if (!ask) return false;
    this.#asks.delete(message.id);
    if (message.op === "error") ask.reject(new AskError(message.code, message.message));
    else ask.resolve(message);
    return true;
  }

  #loseAsks() {
    const lost = new AskError("connection_lost", "the connection ended before the answer came");
    for (const { reject } of this.#asks.values()) reject(lost);
    this.#asks.clear();
  }
}

/** Why a `send` or a `request` was not done: `code` is the server's, `not_connected` or `connection_lost`. */
export class AskError extends Error {
  name = "AskError";

  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** What a late subscription gets of a topic, after `frame`; `before` is what it was. */
function told(before, frame, text) {
  if (frame.kind !== "delta") return [[frame, text]];
  if (before?.[0]?.[0].kind !== "snapshot" || before.length > CHANGES_MAX) return [];
  before.push([frame, text]);
  return before;
}

/** A handler that throws is its author's to see, and must not stop the others. */
function guard(fn, ...args) {
  try {
    fn(...args);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
