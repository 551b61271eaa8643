/**
 * One connection for several tabs: to each tab's client it is a server. Part of `shared.js`.
 *
 * It keeps the newest frames, so that a client that comes back continues where it was.
 *
 * @module hub
 */

import { connect, Unauthorized } from "./fanline.js";
import { covers } from "./pattern.js";

/** Kept for clients that come back. */
const KEPT_FRAMES_MAX = 5_000;
const KEPT_CHARACTERS_MAX = 8_000_000;
/** What nobody needs any more is kept for so long: a reload, and coming back after a loss, take less. */
const LINGER_MS = 3_000;
/** Clients that come together, after a hub has gone, are waited for: the connection begins at the oldest cursor. */
const GATHER_MS = 100;
/** How often clients hear that the connection is well. */
const BEAT_MS = 1_000;
/** What clients are told about that: they give up after twice as long. */
const HEARTBEAT_MS = 5 * BEAT_MS;

/** @typedef {import("./fanline.js").Fanline} Fanline */
/** @typedef {import("./subscription.js").Subscription} Subscription */
/**
 * What leads to a tab. Messages to it are `{text}`, `{close}` and `{ask, reason}`; messages from it `{command}`, `{answer}`
 * and `{bye}`.
 * @typedef {{post: (message: any) => void}} Port
 */

export class Hub {
  /** @type {Set<Session>} */
  sessions = new Set();
  /** @type {Fanline | undefined} */
  client;
  /** @type {{offset: number, topic: string, text: string}[]} newest last */
  kept = [];
  /** @type {Map<string, number>} pattern -> offset after which all of it was kept */
  keptAfter = new Map();
  /** @type {Map<string, any>} topic -> its status, while it holds */
  statuses = new Map();
  /** @type {any} what holds of the whole feed */
  feedStatus;
  /** Whether the connection was open once. */
  wasOpen = false;
  #options;
  #characters = 0;
  #epoch = "";
  /** @type {any} */
  #timer;
  /** @type {any} */
  #beat;
  /** @type {Map<number, {resolve: (token: string) => void, reject: (error: any) => void}>} */
  #questions = new Map();
  #lastQuestion = 0;

  /** @param {Record<string, any>} options */
  constructor(options) {
    this.#options = options;
  }

  /**
   * A tab's client has come.
   * @param {Port} port
   * @param {{url: string, pace: number, hasToken: boolean}} terms `hasToken`: whether its tab can be asked for tokens
   */
  attach(port, { url, pace, hasToken }) {
    clearTimeout(this.#timer);
    const session = new Session(this, port, pace, hasToken);
    this.sessions.add(session);
    if (this.client) {
      session.begin();
      this.pace();
    } else this.#timer = setTimeout(() => this.#connect(url), GATHER_MS);
    return session;
  }

  /** @param {Session} session */
  detach(session) {
    if (!this.sessions.delete(session)) return;
    session.end(LINGER_MS);
    this.pace();
    if (this.sessions.size) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.close(), LINGER_MS);
  }

  close() {
    clearTimeout(this.#timer);
    clearInterval(this.#beat);
    const { client } = this;
    this.client = undefined;
    for (const session of [...this.sessions]) session.lose({ reason: "the shared connection has moved", retry_ms: 1 });
    clearTimeout(this.#timer);
    client?.close();
    this.wasOpen = false;
    [this.kept, this.#characters, this.feedStatus] = [[], 0, undefined];
    this.keptAfter.clear();
    this.statuses.clear();
  }

  /** The connection is as fast as the fastest wants it. */
  pace() {
    const paces = [...this.sessions].map(({ pace }) => pace);
    if (paces.length) this.client?.setPace(Math.min(...paces));
  }

  /** An answer to a question for a token. @param {any} answer */
  answer({ ask, token, error, isUnauthorized }) {
    const question = this.#questions.get(ask);
    this.#questions.delete(ask);
    if (token !== undefined) question?.resolve(token);
    else question?.reject(isUnauthorized ? new Unauthorized(error) : new Error(error));
  }

  /** @param {string} url */
  #connect(url) {
    const cursors = [...this.sessions].map(({ since }) => since).filter((it) => it !== undefined);
    const [epoch] = cursors.map((it) => it.split(":")[0]);
    const offsets = cursors.filter((it) => it.startsWith(`${epoch}:`)).map((it) => Number(it.split(":")[1]));
    const since = offsets.length ? `${epoch}:${Math.min(...offsets)}` : undefined;
    const hasTokens = [...this.sessions].some(({ hasToken }) => hasToken);
    const token = hasTokens ? (/** @type {any} */ { reason }) => this.#ask(reason) : undefined;
    const client = connect(url, { ...this.#options, since, token });
    this.client = client;
    client.on("state", ({ state, reason, retry_ms }) => {
      if (this.client !== client) return;
      if (state === "open") this.#open();
      else if (state === "waiting" || state === "offline") this.#each((it) => it.lose({ reason, retry_ms }));
    });
    client.closed.then(({ code, reason, terminal }) => {
      if (this.client !== client) return;
      this.client = undefined;
      this.wasOpen = false;
      this.#each((it) => it.lose({ code, reason, terminal }));
    });
    client.on("subscription", ({ subscription, state, reason }) => {
      for (const session of this.sessions) session.turned(subscription, state, reason);
    });
    for (const op of ["stale", "live", "refused", "gap"]) client.on(/** @type {any} */ (op), (message) => this.#status(message));
    for (const op of ["view", "skipped"]) {
      client.on(/** @type {any} */ (op), (message) => {
        // What was kept before has a hole after it, or is of another view.
        const offset = reachOf(client);
        for (const pattern of this.keptAfter.keys()) this.keptAfter.set(pattern, Math.max(offset, message.to ?? 0));
        if (op === "view") this.kept = [];
        this.#each((it) => it.say(message));
      });
    }
    client.on("goodbye", (message) => this.#each((it) => it.say(message)));
    this.#beat = setInterval(() => this.#each((it) => it.beat()), BEAT_MS);
    for (const session of this.sessions) session.begin();
    this.pace();
  }

  #open() {
    const { epoch } = /** @type {Fanline} */ (this.client).shared.place;
    if (epoch !== this.#epoch) {
      [this.kept, this.#characters, this.#epoch] = [[], 0, epoch];
      this.keptAfter.clear();
      this.statuses.clear();
    }
    this.feedStatus = undefined;
    this.wasOpen = true;
    for (const session of this.sessions) session.begin();
  }

  /** @param {(session: Session) => void} fn */
  #each(fn) {
    for (const session of [...this.sessions]) fn(session);
  }

  /** @param {string} reason @returns {Promise<string>} */
  #ask(reason) {
    const ask = ++this.#lastQuestion;
    const session = [...this.sessions].findLast(({ hasToken }) => hasToken);
    if (!session) return Promise.reject(new Error("expected a tab that knows the token, found none"));
    session.port.post({ ask, reason });
    return new Promise((resolve, reject) => this.#questions.set(ask, { resolve, reject }));
  }

  /** A frame that some client is to get: kept once, whoever gets it. @param {number} offset @param {string} topic @param {string} text */
  keep(offset, topic, text) {
    const newest = this.kept.at(-1)?.offset ?? 0;
    if (offset <= newest) return;
    this.kept.push({ offset, topic, text });
    this.#characters += text.length;
    this.statuses.delete(topic);
    while (this.kept.length > KEPT_FRAMES_MAX || this.#characters > KEPT_CHARACTERS_MAX) {
      const oldest = /** @type {any} */ (this.kept.shift());
      this.#characters -= oldest.text.length;
      for (const [pattern, after] of this.keptAfter) this.keptAfter.set(pattern, Math.max(after, oldest.offset));
    }
  }

  /** @param {any} message */
  #status(message) {
    const { op, reason, offset, topic = message.topics?.[0] } = message;
    const isOfTopic = op === "gap" || op === "refused" || offset !== undefined || reason === "nothing_yet";
    if (!isOfTopic) {
      this.feedStatus = op === "stale" ? message : undefined;
      return this.#each((it) => it.say(message));
    }
    if (offset) this.keep(offset, topic, JSON.stringify(message));
    if (op === "stale" || op === "refused") this.statuses.set(topic, message);
    else this.statuses.delete(topic);
    this.#each((it) => covers([...it.subscriptions.keys()], topic) && it.say(message));
  }
}

/** One client of one tab. */
export class Session {
  /** @type {Map<string, Subscription>} by pattern */
  subscriptions = new Map();
  /** @type {string | undefined} where it was */
  since;
  #hub;
  #isOpen = false;
  #isOver = false;
  /** @type {Record<string, any>[]} commands for a connection that is not open yet */
  #waiting = [];
  /** @type {Map<any, {pending: Set<string>, finish: () => void}>} by id: subscribe commands without an answer */
  #unanswered = new Map();
  /** @type {string[]} frames that come after the answer to a subscribe command */
  #queue = [];

  /** @param {Hub} hub @param {Port} port @param {number} pace @param {boolean} hasToken */
  constructor(hub, port, pace, hasToken) {
    this.#hub = hub;
    this.port = port;
    this.pace = pace;
    this.hasToken = hasToken;
  }

  /** @param {any} message */
  say(message) {
    if (this.#isOpen) this.port.post({ text: JSON.stringify(message) });
  }

  /** The connection may be open: then this client's is, too. */
  begin() {
    const { client } = this.#hub;
    if (!client || this.#isOver) return;
    if (client.state === "open" && !this.#isOpen) {
      this.#isOpen = true;
      const { epoch } = client.shared.place;
      const offset = reachOf(client);
      const delay_ms = client.delay ? client.shared.delays : undefined;
      const { simulated, identity } = client;
      this.say({ op: "welcome", epoch, offset, ts: this.#serverTime, heartbeat_ms: HEARTBEAT_MS, simulated, delay_ms });
      if (identity) this.say(identity);
    }
    for (const command of this.#waiting.splice(0)) this.take(command);
  }

  /** @param {import("./websocket.js").Loss} loss */
  lose(loss) {
    if (this.#isOver) return;
    this.port.post({ close: loss });
    this.#hub.detach(this);
  }

  /** What it subscribed to is kept for a while. @param {number} linger_ms */
  end(linger_ms) {
    [this.#isOver, this.#isOpen] = [true, false];
    setTimeout(() => this.#leave([...this.subscriptions.keys()]), linger_ms);
  }

  /** The connection is well. */
  beat() {
    const { client } = this.#hub;
    if (!client || client.isLate) return;
    const { isSettled } = client.shared.place;
    const offset = reachOf(client);
    this.say({ op: "heartbeat", offset: isSettled && !this.#unanswered.size ? offset : 0, ts: this.#serverTime });
  }

  get #serverTime() {
    const { client } = this.#hub;
    return client && Number.isFinite(client.clockOffset) ? client.now() - client.clockOffset : undefined;
  }

  /** @param {Record<string, any>} command */
  take(command) {
    const { client, wasOpen } = this.#hub;
    const { op, id, since } = command;
    if (since) this.since = since;
    // A connection that begins at a cursor must not begin there for those that have none.
    const isReady = client?.state === "open" || (client && !wasOpen && since);
    if (!client || (op === "subscribe" && !isReady)) return void this.#waiting.push(command);
    if (op === "subscribe") this.#subscribe(command, client);
    else if (op === "unsubscribe") this.#unsubscribe(command);
    else if (op === "auth") client.setToken(command.token);
    else if (op === "ping") {
      if (!client.isSilent) this.say({ op: "pong", id, ts: this.#serverTime });
    } else if (op === "send") this.#relay(id, client.send(command.topic, command.data), () => ({ op: "sent", id }));
    else if (op === "request") this.#relay(id, client.request(command.data, command.timeout_ms), (data) => ({ op: "response", id, data }));
  }

  /** @param {any} id @param {Promise<any>} answer @param {(data: any) => any} said */
  #relay(id, answer, said) {
    answer.then(
      (data) => this.say(said(data)),
      ({ code, message }) => this.say({ op: "error", id, code, message }),
    );
  }

  /** @param {Record<string, any>} command @param {Fanline} client */
  #subscribe({ id, topics, since, every_ms }, client) {
    if (every_ms !== undefined) {
      this.pace = every_ms;
      this.#hub.pace();
    }
    const { kept, keptAfter, wasOpen, statuses } = this.#hub;
    const { epoch } = client.shared.place;
    const offset = reachOf(client);
    const [cursorEpoch, digits] = since?.split(":") ?? [];
    const cursor = cursorEpoch === epoch ? Number(digits) : 0;
    const fresh = topics.filter((/** @type {string} */ pattern) => !this.subscriptions.has(pattern));
    const isResumed = cursor > 0 && fresh.every((/** @type {string} */ pattern) => (keptAfter.get(pattern) ?? Infinity) <= cursor);
    const pending = new Set(fresh.filter((/** @type {string} */ pattern) => !client.shared.interests.get(pattern)?.isInForce));
    /** @type {string[]} */
    const values = [];
    const finish = () => {
      this.say({ op: "subscribed", id, topics, offset: reachOf(client) });
      if (isResumed) values.splice(0, Infinity, ...kept.filter((it) => it.offset > cursor && covers(fresh, it.topic)).map(({ text }) => text));
      // A connection that began at the cursor is told by the server what is missing.
      else if (since && wasOpen) {
        this.say({ op: "skipped", from: cursor && cursor + 1, to: offset, reason: cursor ? "expired" : "epoch" });
      }
      for (const text of [...values, ...this.#queue.splice(0)]) this.port.post({ text });
      if (this.#hub.feedStatus) this.say(this.#hub.feedStatus);
      for (const [topic, status] of statuses) if (covers(fresh, topic)) this.say(status);
    };
    if (pending.size) this.#unanswered.set(id, { pending, finish });
    let isKnown = true; // what comes is known already
    for (const pattern of fresh) {
      const subscription = client.subscribe(pattern, (frame, _, text) => {
        if (isKnown) return void values.push(text);
        this.#hub.keep(frame.offset, frame.topic, text);
        if (this.#unanswered.size) this.#queue.push(text);
        else if (this.#isOpen) this.port.post({ text });
      });
      this.subscriptions.set(pattern, subscription);
      if (!keptAfter.has(pattern)) keptAfter.set(pattern, wasOpen ? Infinity : cursor);
    }
    isKnown = false;
    if (!pending.size) finish();
  }

  /** A subscription of the connection has changed its state. @param {Subscription} subscription @param {string} state @param {string} reason */
  turned(subscription, state, reason) {
    const [pattern] = subscription.patterns;
    const { client, keptAfter } = this.#hub;
    if (!client || this.subscriptions.get(pattern) !== subscription || state === "pending") return;
    if (keptAfter.get(pattern) === Infinity) keptAfter.set(pattern, reachOf(client));
    for (const [id, { pending, finish }] of this.#unanswered) {
      if (!pending.delete(pattern)) continue;
      if (state === "refused") this.say({ op: "error", id, code: reason, message: reason });
      if (pending.size) continue;
      this.#unanswered.delete(id);
      if (state !== "refused") finish();
    }
  }

  /** @param {Record<string, any>} command */
  #unsubscribe({ id, topics }) {
    this.#leave(topics);
    this.say({ op: "unsubscribed", id, topics, offset: this.#hub.client ? reachOf(this.#hub.client) : 0 });
  }

  /** @param {string[]} patterns */
  #leave(patterns) {
    const { client, keptAfter, statuses } = this.#hub;
    for (const pattern of patterns) {
      this.subscriptions.get(pattern)?.unsubscribe();
      this.subscriptions.delete(pattern);
      if (!client?.shared.interests.get(pattern)?.users) keptAfter.delete(pattern);
    }
    // Of what nobody subscribes to, nothing is heard any more.
    const wanted = [...keptAfter.keys()];
    for (const topic of statuses.keys()) if (!covers(wanted, topic)) statuses.delete(topic);
  }
}

/** Up to where a client has heard. @param {Fanline} client */
function reachOf(client) {
  const { offset, liveAfter } = client.shared.place;
  return Math.max(offset, liveAfter);
}
