/**
 * A server that speaks `fanline.v1` on all four transports and misbehaves as it is told.
 *
 * It keeps a record: `attempts` (requests that open or are something), `asked` (what clients subscribe to, whatever the
 * transport), `commands`, and `faults`: what a client must not do.
 *
 * @module server/fake_server
 */

import { createServer } from "node:net";

import { Credentials } from "./credentials.mjs";
import { Feed } from "./feed.mjs";
import { answer, json, RequestReader } from "./http.mjs";
import { poll, snapshot, topics } from "./polls.mjs";
import { openEvents, openWebSocket } from "./streams.mjs";

/**
 * @typedef {object} Attempt
 * @property {"websocket"|"sse"|"longpoll"|"poll"} transport
 * @property {string} path
 * @property {Record<string, string>} query
 * @property {string[]} topics
 * @property {string|undefined} since
 * @property {number} at
 */
/** @typedef {{server: FakeServer, socket: import("node:net").Socket, reader: RequestReader, request: import("./http.mjs").Request, attempt: Attempt}} Visit */
/**
 * What is done to an attempt; without any of it, it is served.
 * @typedef {object} Plan
 * @property {{status: number, headers?: object, code?: string, message?: string, body?: string, type?: string}} [refuse]
 * @property {"answer"|"welcome"|"events"|"values"} [hold] what does not come: any answer; anything after the upgrade or head; any
 *   byte after the head; values after `subscribed`
 * @property {true} [reset] the connection is reset
 * @property {number} [late_ms] served this much later
 * @property {string} [raw] these bytes, and the end
 * @property {{code: number, reason?: string}} [close] closed instead of welcomed
 * @property {object} [welcome] members of the welcome
 * @property {"welcome"|"subscribed"} [mute_after]
 * @property {number} [cut_after_ms] reset after this time; what the client has not read by then is lost to it
 * @property {number} [fin_after_ms] ended after this time, without a close frame: the client reads all that was sent
 * @property {true} [drip] byte by byte
 * @property {number} [buffer_bytes] in blocks of this size, as a proxy with a buffer has it
 */

const HEARTBEAT_MS = 3000;

export class FakeServer {
  sessions = [];
  attempts = [];
  asked = [];
  commands = [];
  faults = [];
  /** Polls that wait for something new. */
  parked = new Set();
  /** Commands that are not answered. */
  silent = new Set();
  /** When the newest connection was lost, ended or refused. */
  lostAt = 0;
  /** Told of everything that goes into the record. */
  onRecord = () => {};

  #rules = [];
  #sockets = new Set();
  #listener = createServer({ noDelay: true }, (socket) => this.#take(socket));

  /** @param {object} settings `heartbeat_ms`, `auth`, `gzip`, `pending`, `forbidden`, `errors`, `welcome`, `gather_ms`, `clock_ahead_ms` */
  constructor(settings = {}) {
    this.settings = settings;
    this.feed = new Feed(settings.clock_ahead_ms);
    this.heartbeat_ms = settings.heartbeat_ms ?? HEARTBEAT_MS;
    this.credentials = new Credentials(settings.auth);
    this.silent = new Set(settings.silent);
  }

  /** @param {string} address a loopback address of its own, so that browsers count its connections apart */
  async open(address) {
    await new Promise((resolve, reject) => this.#listener.once("error", reject).listen(0, address, resolve));
    const { port } = this.#listener.address();
    this.origin = `http://${address}:${port}`;
    this.url = `${this.origin}/v1/ws`;
  }

  close() {
    this.#listener.close();
    for (const session of [...this.sessions]) session.over();
    for (const parked of [...this.parked]) parked.leave();
    for (const socket of this.#sockets) socket.destroy();
  }

  /** The next `times` attempts on these transports go as `plan` says. */
  rule({ on, times = 1, plan }) {
    this.#rules.push({ on, times, plan });
  }

  /** From here on everything is served. */
  clearRules() {
    this.#rules = [];
  }

  /** The newest stream that is open. */
  get session() {
    return this.sessions.at(-1);
  }

  publish(frame) {
    return this.#spread(this.feed.publish(frame));
  }

  status(message) {
    return this.#spread(this.feed.status(message));
  }

  /** The state of the whole feed. @param {object|null} message `stale`, or null for live */
  feedState(message) {
    this.feed.stale = message && { op: "stale", topics: [">"], since_ms: this.feed.now(), ts: this.feed.now(), message: "", ...message };
    const said = this.feed.stale ?? { op: "live", topics: [">"], ts: this.feed.now() };
    for (const session of this.sessions) session.say(said);
    for (const parked of this.parked) parked.wake();
  }

  /** Cuts what is open, or what comes next where nothing is: polls have pauses. */
  cut(how = "reset") {
    this.lostAt = Date.now();
    const sockets = [...this.sessions.map((session) => session.outlet.socket), ...[...this.parked].map(({ visit }) => visit.socket)];
    if (!sockets.length) this.rule({ plan: { reset: true } });
    for (const socket of sockets) how === "fin" ? socket.end() : socket.resetAndDestroy();
  }

  /** Everything that is open goes mute, and stays open. */
  mute() {
    if (!this.sessions.length && !this.parked.size) this.rule({ plan: { hold: "answer" } });
    for (const session of this.sessions) session.outlet.mute();
    for (const parked of [...this.parked]) parked.leave();
  }

  /** A whole answer; the connection serves the next request, unless the settings say otherwise. */
  send(socket, bytes) {
    if (this.settings.keep_alive === false) socket.end(bytes);
    else socket.write(bytes);
  }

  /** What a client subscribes to, by a command or a query. */
  ask(attempt, { topics, since, id }) {
    this.#record("asked", { transport: attempt.transport, topics: [...topics].sort(), since: since ?? null, attempt, id });
  }

  /** @param {import("./session.mjs").Session} session @param {object} command */
  command(session, command) {
    session.commands.push(command);
    this.#record("commands", { ...command, session });
  }

  /** The client has done what it must not. @param {string} sentence */
  fault(sentence) {
    this.faults.push(sentence);
    this.onRecord();
  }

  left(session) {
    this.lostAt = Date.now();
    this.sessions = this.sessions.filter((other) => other !== session);
    this.onRecord();
  }

  #record(name, entry) {
    this[name].push({ ...entry, at: Date.now() });
    this.onRecord();
  }

  #spread(entry) {
    for (const session of this.sessions) if (!session.holdsValues) session.deliver(entry);
    for (const parked of this.parked) parked.wake();
    return entry;
  }

  #take(socket) {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.#sockets.delete(socket));
    const reader = new RequestReader(socket, (request) => {
      request.isLast = this.settings.keep_alive === false;
      this.#serve({ server: this, socket, reader, request });
    });
  }

  #serve(visit) {
    const { socket, request } = visit;
    if (request.method === "OPTIONS") {
      const asked = request.headers["access-control-request-headers"];
      return this.send(socket, answer(request, 204, { "access-control-allow-headers": asked, "access-control-allow-methods": "GET, HEAD, POST", "access-control-max-age": "600" }));
    }
    if (request.path === "/v1/ticket") return this.#giveTicket(visit);
    const transport = transportOf(request);
    if (!transport) return this.send(socket, json(request, 404, { code: "not_found", message: "there is no such path" }));
    const { attempt, plan } = this.#meet(visit, transport);
    const withAttempt = { ...visit, attempt };
    const serve = () => this.#answer(withAttempt, plan);
    if (plan.late_ms) setTimeout(serve, plan.late_ms).unref();
    else serve();
    return undefined;
  }

  /** Records the attempt, and says what to do with it. */
  #meet({ request }, transport) {
    const query = Object.fromEntries(request.query);
    const topics = (query.topics ?? "").split(",").filter(Boolean);
    const since = (transport === "sse" && request.headers["last-event-id"]) || query.since;
    const attempt = { n: this.attempts.length + 1, transport, path: request.path, query, headers: request.headers, topics, since, at: Date.now() };
    attempt.after_ms = attempt.at - this.lostAt;
    this.attempts.push(attempt);
    this.#judgeManners(attempt);
    const rule = this.#rules.find(({ on, times }) => times > 0 && (!on || on.includes(transport)));
    if (rule) rule.times -= 1;
    this.onRecord();
    return { attempt, plan: rule?.plan ?? {} };
  }

  #judgeManners({ query, transport, topics, path }) {
    const values = Object.values(query).join(" ");
    for (const token of Object.keys(this.settings.auth?.tokens ?? {})) {
      if (values.includes(token)) this.fault(`a token is never in a URL, found \`${token}\``);
    }
    if (transport === "websocket") return;
    if (topics.join() !== [...new Set(topics)].sort().join()) this.fault(`\`topics\` of ${path} are sorted and without repeats, found \`${topics}\``);
    if (path === "/v1/sse" && !topics.length) this.fault("a stream of events has `topics`, found none");
  }

  #answer(visit, plan) {
    const { socket, request, attempt } = visit;
    if (socket.destroyed || plan.hold === "answer") return;
    if (plan.hold && /poll/.test(attempt.transport)) return;
    if (plan.reset || plan.refuse || plan.raw) this.lostAt = Date.now();
    if (plan.reset) return void socket.resetAndDestroy();
    if (plan.raw) return void socket.end(plan.raw);
    if (plan.refuse) return this.#refuse(visit, plan.refuse);
    if (attempt.transport === "websocket") return void openWebSocket(visit, plan);
    if (this.credentials.isOn && !this.#admits(visit)) {
      this.lostAt = Date.now();
      return this.#refuse(visit, { status: 401, headers: { "www-authenticate": "Bearer" }, code: "unauthenticated", message: "no valid token" });
    }
    if (attempt.since && this.settings.refuse_cursors) return this.#refuse(visit, { status: 400, code: "bad_cursor", message: "expected a cursor" });
    if (attempt.transport === "sse") return void openEvents(visit, plan);
    if (attempt.path === "/v1/topics") return topics(visit);
    return attempt.path === "/v1/poll" ? poll(visit) : snapshot(visit);
  }

  /** Errors of a stream come as an event where the query says so, except what a proxy in between would say. */
  #refuse({ socket, request, attempt }, { status, headers = {}, code = "refused", message = "refused", body, type }) {
    if (attempt.query.errors === "events" && body === undefined && status !== 204) {
      const retry_ms = [401, 403, 404].includes(status) ? 86_400_000 : 1000 * Number(headers["retry-after"] ?? 1);
      const event = `retry: ${retry_ms}\n\nevent: error\ndata: ${JSON.stringify({ op: "error", code, message })}\n\n`;
      return void this.send(socket, answer(request, 200, { "content-type": "text/event-stream; charset=utf-8", ...headers }, event));
    }
    attempt.answered = status;
    if (body === undefined) this.send(socket, json(request, status, { code, message }, headers));
    else this.send(socket, answer(request, status, { "content-type": type ?? "text/html", ...headers }, body));
  }

  #admits({ request, attempt }) {
    const shown = this.credentials.ofRequest(request);
    if (!shown) return !this.credentials.isRequired;
    attempt.token = shown.token;
    attempt.rights = this.credentials.judge(shown.token, shown.way);
    attempt.isDenied = attempt.rights === undefined;
    // A stream tells it after its welcome, as a WebSocket does.
    return !attempt.isDenied || attempt.transport === "sse";
  }

  #giveTicket({ socket, request }) {
    const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
    if (!token || !this.credentials.judge(token, "ticket")) {
      return this.send(socket, json(request, 401, { code: "unauthenticated", message: "no valid token" }));
    }
    return this.send(socket, json(request, 200, { ticket: this.credentials.ticket(token), expires_ms: 30_000 }));
  }
}

function transportOf({ path, query }) {
  if (path === "/v1/ws") return "websocket";
  if (path === "/v1/sse") return "sse";
  if (path === "/v1/poll") return Number(query.get("wait_ms") ?? 0) > 0 ? "longpoll" : "poll";
  if (path === "/v1/snapshot" || path === "/v1/topics") return "poll";
  return undefined;
}
