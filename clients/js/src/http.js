/**
 * A connection over HTTP requests: takes the commands that a WebSocket takes, and turns them into what is asked for.
 * Part of `sse.js` and `poll.js`.
 *
 * What is new of a pattern that joins later is had by a poll of its own; then all go on together from the same cursor.
 *
 * @module http
 */

/** @typedef {import("./websocket.js").Request} Request */
/** @typedef {import("./websocket.js").Loss} Loss */

/** Nothing is called so: a question about it shows that the server is there. */
const NOTHING = "-";
/** A client without subscriptions asks whether the server is there. */
const IDLE_MS = 10_000;
/** But not at once: most subscribe soon. */
const FIRST_IDLE_MS = 100;
/** Polls that bring nothing new are put so often at most, whoever answers them at once. */
export const CALM_MS = 1_000;
/** Answers carry as many frames at most. */
const FRAMES_MAX = 1_000;
/** Statuses after which it is to be tried later, not elsewhere. */
const LATER = [429, 503];
const LATER_MS = 5_000;
const UNAUTHENTICATED = 4401;
/** Without a token nothing is shown. */
const IS_HEADER = /^[ -~]*$/;
/** The state of a feed that brings nothing, and the reason that `stale` has for it. */
/** @type {Record<string, string>} */
const TROUBLES = { down: "upstream_down", silent: "upstream_silent" };

/** @param {number} ms @param {AbortSignal} signal */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => resolve(clearTimeout(timer)), { once: true });
  });
}

export class Session {
  /** What was received last: `EPOCH:OFFSET`. @type {string | undefined} */
  received;
  topics = new Set();
  #request;
  #stream;
  #isChanged = false;
  #isOver = false;
  /** @type {AbortController | undefined} */
  #running;
  /** @type {string | undefined} */
  #token;
  /** @type {number | undefined} */
  #pace;
  /** Patterns whose current values are to be had. */
  #fresh = new Set();
  /** @type {any[]} ids of commands that the next `subscribed` answers */
  #ids = [];
  /** @type {any} the command that named the cursor */
  #cursorId;
  #isStreaming = false;
  #epoch = "";
  /** How late the newest answer that says it is, as text. @type {string | undefined} */
  #delay;
  #trouble = "";
  #heartbeat_ms;

  /**
   * @param {Request} request @param {number} heartbeat_ms how often a poll is answered
   * @param {(session: Session, signal: AbortSignal) => Promise<void>} stream receives until it is told to stop
   */
  constructor(request, heartbeat_ms, stream) {
    this.#request = request;
    this.#stream = stream;
    this.#heartbeat_ms = heartbeat_ms;
    queueMicrotask(() => {
      if (this.#isOver) return;
      request.onOpen();
      this.#change();
    });
  }

  /** Where to go on: not known while the values of what was added are to be had. */
  get cursor() {
    return this.#isStreaming ? this.received : undefined;
  }

  get options() {
    return this.#request.options;
  }

  /** @param {Record<string, any>} command */
  send(command) {
    const { op, id, topics = [] } = command;
    if (op === "auth") this.#token = command.token;
    else if (op === "subscribe") {
      if (command.since) [this.received, this.#cursorId] = [command.since, id];
      this.#pace = command.every_ms ?? this.#pace;
      this.#ids.push(id);
      for (const pattern of topics) {
        if (!this.topics.has(pattern) && !command.since) this.#fresh.add(pattern);
        this.topics.add(pattern);
      }
    } else if (op === "unsubscribe") {
      for (const pattern of topics) [this.topics, this.#fresh].forEach((it) => it.delete(pattern));
    } else if (op !== "ping") {
      return this.say({ op: "error", id, code: "one_way", message: "expected a WebSocket for this command" });
    } else return;
    this.#change();
  }

  close() {
    this.#isOver = true;
    this.#running?.abort();
  }

  /** @param {any} message */
  say(message) {
    this.hear(JSON.stringify(message));
  }

  /** A message for the client. @param {string} text */
  hear(text) {
    if (!this.#isOver) this.#request.onText(text);
  }

  /** It is over. @param {Loss} loss */
  lose(loss) {
    if (this.#isOver) return;
    this.close();
    this.#request.onClose(loss);
  }

  /** The address of another path beside `/v1/ws`. @param {string} path @param {Record<string, any>} query */
  url(path, query) {
    const url = new URL(path, this.#request.url);
    url.protocol = url.protocol.replace(/^ws/, "http");
    for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, value);
    return url;
  }

  /** The parameters of a stream that WebSocket has in its address, too. */
  get terms() {
    const { searchParams } = this.#request.url;
    const every = this.#pace === undefined ? searchParams.get("every") : `${this.#pace}ms`;
    return { policy: searchParams.get("policy") ?? undefined, every: every ?? undefined };
  }

  /** @param {URL} url @param {AbortSignal} signal @param {Record<string, string>} [headers] */
  async fetch(url, signal, headers = {}) {
    if (this.#token) headers.authorization = `Bearer ${this.#token}`;
    if (!IS_HEADER.test(headers.authorization ?? "")) {
      this.lose({ code: UNAUTHENTICATED, reason: "expected a token of ASCII characters, found others" });
      throw new Error("no header can hold the token");
    }
    const { fetch = globalThis.fetch } = this.options;
    const response = await fetch(url, { signal, headers, cache: "no-store" });
    if (response.status === 200 || response.status === 204) return response;
    const { error, ...loss } = await lossOf(response);
    if (error === "bad_cursor" && this.#cursorId !== undefined) {
      const id = this.#cursorId;
      this.#ids = this.#ids.filter((it) => it !== id);
      [this.received, this.#cursorId] = [undefined, undefined];
      this.say({ op: "error", id, code: error, message: loss.reason });
    } else this.lose(loss);
    throw new Error(`status ${response.status}`);
  }

  /**
   * Greets in the place of a server that does not, and says how late answers are from here on. Returns whether the epoch is
   * another.
   * @param {{epoch: string, offset: number, delay_ms?: any}} answer `delay_ms` is null if the answer does not say it
   * @param {any} [more]
   */
  greet({ epoch, offset, delay_ms = 0 }, more) {
    const delay = JSON.stringify(delay_ms);
    const isOther = delay_ms !== null && delay !== this.#delay;
    if (isOther) this.#delay = delay;
    if (epoch !== this.#epoch) {
      this.#epoch = epoch;
      this.say({ op: "welcome", epoch, offset, delay_ms, heartbeat_ms: this.#heartbeat_ms, ...more });
      return true;
    }
    if (isOther) this.say({ op: "delayed", delay_ms });
    return false;
  }

  /** The server has greeted. @param {string} epoch */
  greeted(epoch) {
    this.#epoch = epoch;
  }

  /** From here on what was received last is a cursor. */
  streams() {
    this.#isStreaming = true;
  }

  /** Answers the commands that wait for it. @param {number} offset @param {any} [more] */
  subscribed(offset, more) {
    const ids = this.#ids.length ? this.#ids : [undefined];
    [this.#ids, this.#cursorId] = [[], undefined];
    for (const id of ids) this.say({ op: "subscribed", ...more, id, offset });
  }

  /** What the feed's state has become. @param {{state: string, [more: string]: any}} feed @param {number} [ts] */
  feed({ state, ...more }, ts) {
    const trouble = TROUBLES[state] ?? "";
    if (trouble === this.#trouble) return;
    this.#trouble = trouble;
    if (trouble) this.say({ op: "stale", topics: [">"], reason: trouble, message: "", ts, ...more });
    else this.say({ op: "live", topics: [">"], ts });
  }

  /** @param {Iterable<string>} topics @param {any} query */
  pollUrl(topics, query) {
    return this.url("poll", { topics: [...topics].sort().join(), max: FRAMES_MAX, ...query });
  }

  /** What is sent and asked for changes at the end of this turn. */
  #change() {
    if (this.#isChanged) return;
    this.#isChanged = true;
    queueMicrotask(() => {
      this.#isChanged = false;
      this.#running?.abort();
      this.#isStreaming = false;
      if (this.#isOver) return;
      this.#running = new AbortController();
      const { signal } = this.#running;
      this.#run(signal).catch((error) => {
        if (!signal.aborted) this.lose({ code: 1006, reason: `${error?.message ?? error}` });
      });
    });
  }

  /** @param {AbortSignal} signal */
  async #run(signal) {
    if (!this.topics.size) return this.#idle(signal);
    if (this.received && this.#fresh.size) await this.#join(signal);
    this.#fresh.clear();
    await this.#stream(this, signal);
  }

  /** The current values of what was added. @param {AbortSignal} signal */
  async #join(signal) {
    const topics = [...this.#fresh];
    /** @type {string | undefined} */
    let next;
    do {
      /** @type {string | undefined} */
      const since = next;
      const response = await this.fetch(this.pollUrl(topics, { since }), signal);
      if (response.status === 204) return;
      const answer = readAnswer(await response.text());
      if (signal.aborted) return;
      this.greet(answer);
      if (!since) this.subscribed(answer.offset);
      for (const { text } of answer.messages) this.hear(text);
      next = answer.caught_up ? undefined : answer.next;
      if (next && next === since) await pause(CALM_MS, signal);
    } while (next && !signal.aborted);
  }

  /** @param {AbortSignal} signal */
  async #idle(signal) {
    await pause(FIRST_IDLE_MS, signal);
    while (!signal.aborted) {
      const response = await this.fetch(this.pollUrl([NOTHING], {}), signal);
      const answer = readAnswer(await response.text());
      this.greet(answer, { heartbeat_ms: IDLE_MS });
      if (answer.feed) this.feed(answer.feed);
      this.say({ op: "heartbeat", offset: 0 });
      await pause(IDLE_MS, signal);
    }
  }
}

/** Why a server answers otherwise. @param {Response} response @returns {Promise<Loss & {error?: string}>} */
async function lossOf(response) {
  const { status, headers } = response;
  const body = await response.text().catch(() => "");
  let [error, reason] = ["", `the server answered with status ${status}`];
  try {
    ({ code: error, message: reason = reason } = JSON.parse(body));
  } catch {
    // something on the way has answered
  }
  if (status === 401) return { code: UNAUTHENTICATED, reason };
  if (!LATER.includes(status)) return { code: status, reason, error };
  const seconds = Number(headers.get("retry-after"));
  return { code: status, reason, retry_ms: (seconds > 0 ? seconds * 1000 : LATER_MS) * (1 + Math.random() / 4) };
}

const TOKEN = /"(?:[^"\\]|\\.)*"|[[\]{}]/g;

/**
 * An answer, and in `messages` its frames and notes by offset, each with the text as received.
 * @param {string} text
 * @returns {{epoch: string, offset: number, next?: string, caught_up?: boolean, feed?: any, skipped?: any, simulated?: boolean,
 *   delay_ms?: any, messages: {offset: number, text: string}[]}}
 */
export function readAnswer(text) {
  const answer = JSON.parse(text);
  if (typeof answer?.epoch !== "string") throw new Error("expected an answer of fanline, found something else");
  /** @type {Record<string, string[]>} */
  const lists = {};
  let [depth, last, key, start] = [0, "", "", 0];
  for (const { 0: token, index } of text.matchAll(TOKEN)) {
    if (token === "{" || token === "[") {
      if (depth === 1) key = JSON.parse(last);
      if (depth === 2) start = index;
      depth += 1;
    } else if (token === "}" || token === "]") {
      depth -= 1;
      if (depth === 2) (lists[key] ??= []).push(text.slice(start, index + 1));
    } else if (depth === 1) last = token;
  }
  const messages = ["frames", "notes"].flatMap((name) =>
    (answer[name] ?? []).map((/** @type {any} */ it, /** @type {number} */ i) => ({ offset: it.offset, text: lists[name][i] })),
  );
  return { ...answer, messages: messages.sort((a, b) => a.offset - b.offset) };
}
