/**
 * One connected client of the fake server, on a WebSocket or a stream of events: what it is told.
 *
 * @module server/session
 */

import { covers, isWildcard } from "./pattern.mjs";

export class Session {
  patterns = new Set();
  /** Whether a subscription is in force, so that `since` comes too late. */
  hasSubscribed = false;
  /** Nothing but `auth` and `ping` is served before. */
  isAdmitted = true;
  /** Current values and replays are not sent: the connection will be lost in the middle of them. */
  holdsValues = false;
  isOver = false;
  /** Texts of commands that the client sent, parsed. */
  commands = [];

  #heartbeats;
  #saidAt = Date.now();

  /**
   * @param {import("./fake_server.mjs").FakeServer} server
   * @param {import("./fake_server.mjs").Attempt} attempt
   * @param {{text: (text: string, about: {op?: string, cursor?: string}) => void, close: (code: number, reason: string) => void}} wire
   * @param {import("./outlet.mjs").Outlet} outlet
   */
  constructor(server, attempt, wire, outlet) {
    Object.assign(this, { server, attempt, wire, outlet, transport: attempt.transport });
    this.#heartbeats = setInterval(() => this.#beat(), Math.max(20, server.heartbeat_ms / 4));
    outlet.socket.on("close", () => this.over());
    server.sessions.push(this);
  }

  get feed() {
    return this.server.feed;
  }

  /** A message that is no frame. @param {object} message */
  say(message) {
    const own = message.offset !== undefined && !["welcome", "subscribed", "unsubscribed", "view"].includes(message.op);
    this.text(JSON.stringify(message), { op: message.op, cursor: own ? this.#cursor(message.offset) : undefined });
  }

  /** @param {string} text @param {{op?: string, cursor?: string}} [about] */
  text(text, about = {}) {
    if (this.isOver) return;
    this.#saidAt = Date.now();
    this.wire.text(text, about);
  }

  /** @param {import("./feed.mjs").Entry} entry */
  tell(entry) {
    this.text(entry.text, { op: entry.op, cursor: this.#cursor(entry.offset) });
  }

  /** Tells what has just been published, if it is for this client. */
  deliver(entry) {
    if (this.patterns.size && covers(this.patterns, entry.topic)) this.tell(entry);
  }

  greet(changes = {}) {
    const { epoch, offset } = this.feed;
    const { heartbeat_ms, settings } = this.server;
    this.say({ op: "welcome", protocol: "fanline.v1", epoch, offset, ts: this.feed.now(), heartbeat_ms, ...settings.welcome, ...changes });
  }

  /** Adds patterns, answers, and tells what is there. @param {{id?: any, topics: string[], since?: string, brief?: boolean}} command */
  subscribe({ id, topics, since, brief }) {
    const { forbidden = [], pending = [], subscribed = {} } = this.server.settings;
    const before = [...this.patterns];
    const from = since === undefined ? undefined : this.feed.since(since, topics);
    if (from?.bad_cursor || (from && this.server.settings.refuse_cursors)) {
      return this.say({ op: "error", id, code: "bad_cursor", message: "expected a cursor that the server has given" });
    }
    const refused = topics.filter((topic) => forbidden.includes(topic));
    for (const topic of topics) if (!refused.includes(topic)) this.patterns.add(topic);
    this.hasSubscribed = true;
    const inForce = brief ? { count: this.patterns.size } : { topics: [...this.patterns] };
    const unknown = topics.filter((topic) => !isWildcard(topic) && pending.includes(topic));
    this.say({
      op: "subscribed",
      id,
      ...inForce,
      offset: this.feed.offset,
      pending: unknown.length ? unknown : undefined,
      forbidden: refused.length ? refused : undefined,
      ...subscribed,
    });
    if (this.holdsValues) return;
    for (const topic of unknown) {
      this.say({ op: "stale", topics: [topic], reason: "nothing_yet", message: "nothing yet", since_ms: this.feed.now(), ts: this.feed.now() });
    }
    if (from?.skipped) this.say({ ...from.skipped });
    const entries = from?.entries ?? this.feed.current(topics).filter((entry) => !covers(before, entry.topic));
    for (const entry of entries) if (covers(this.patterns, entry.topic)) this.tell(entry);
    if (this.feed.stale) this.say(this.feed.stale);
  }

  /** Ends it in order. */
  close(code, reason = "") {
    if (this.isOver) return;
    this.wire.close(code, reason);
    this.over();
  }

  /** Nothing is said any more. */
  over() {
    if (this.isOver) return;
    this.isOver = true;
    clearInterval(this.#heartbeats);
    this.server.left(this);
  }

  #beat() {
    const silent_ms = Date.now() - this.#saidAt;
    if (silent_ms < this.server.heartbeat_ms || !this.isAdmitted || this.attempt.withoutHeartbeat) return;
    this.say({ op: "heartbeat", offset: this.feed.offset, ts: this.feed.now() });
  }

  #cursor(offset) {
    return `${this.feed.epoch}:${offset}`;
  }
}
