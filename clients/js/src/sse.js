/**
 * The transport `sse`: a stream of server-sent events, read with `fetch`.
 *
 * @module sse
 */

import { Session } from "./http.js";

/** @type {import("./websocket.js").Transport} */
export const sse = {
  name: "sse",
  open: (request) => new Session(request, 0, stream),
};

/** @param {Session} session @param {AbortSignal} signal */
async function stream(session, signal) {
  const topics = [...session.topics].sort().join();
  const url = session.url("sse", { topics, since: session.received, ...session.terms });
  const response = await session.fetch(url, signal, { accept: "text/event-stream" });
  if (response.status === 204) return session.lose({ code: 204, reason: "the server has no more", terminal: true });
  const isStream = response.headers.get("content-type")?.startsWith("text/event-stream");
  if (!isStream || !response.body) throw new Error("expected a stream of events, found something else");
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  const events = new EventParser((data, op, id) => {
    if (signal.aborted) return;
    if (id) session.received = id;
    if (op === "close") return session.lose(JSON.parse(data));
    if (op === "subscribed") {
      session.streams();
      return session.subscribed(JSON.parse(data).offset, JSON.parse(data));
    }
    if (op === "welcome") session.greeted(JSON.parse(data).epoch);
    session.hear(data);
  });
  for (;;) {
    const { value, done } = await reader.read();
    if (signal.aborted) return;
    if (done) throw new Error("the stream was cut");
    events.push(decoder.decode(value, { stream: true }));
  }
}

/** Reads server-sent events (WHATWG HTML, section 9.2.6) as they come, cut anywhere. */
export class EventParser {
  #onEvent;
  #rest = "";
  /** @type {string[]} */
  #data = [];
  #name = "";
  #id = "";

  /** @param {(data: string, name: string, id: string) => void} onEvent */
  constructor(onEvent) {
    this.#onEvent = onEvent;
  }

  /** @param {string} text */
  push(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = /** @type {string} */ (lines.pop());
    for (const line of lines) this.#take(line);
  }

  /** @param {string} line */
  #take(line) {
    if (!line) {
      const [data, name, id] = [this.#data.join("\n"), this.#name, this.#id];
      [this.#data, this.#name, this.#id] = [[], "", ""];
      if (data) this.#onEvent(data, name, id);
      return;
    }
    const [, field, value] = /** @type {RegExpExecArray} */ (/^([^:]*):? ?([^]*)$/.exec(line));
    if (field === "data") this.#data.push(value);
    if (field === "event") this.#name = value;
    if (field === "id" && !value.includes("\0")) this.#id = value;
  }
}
