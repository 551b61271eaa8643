/**
 * What the fake server knows: one log of frames and topic statuses, and what clients are told of it.
 *
 * Invariants, as of the real server: offsets are dense, frames are told in their order, what is left out is announced.
 *
 * @module server/feed
 */

import { randomBytes } from "node:crypto";

import { covers } from "./pattern.mjs";

/**
 * An entry of the log: a frame, or a topic status (`op`).
 * @typedef {{offset: number, topic: string, text: string, kind?: string, op?: string, reason?: string}} Entry
 */

export class Feed {
  epoch = newEpoch();
  offset = 0;
  /** @type {Entry[]} */
  entries = [];
  /** The ring holds the entries from this offset on. */
  oldest = 1;
  /** What `stale` said about the whole feed, if it holds. */
  stale = null;

  /** @param {number} [clock_ahead_ms] how far the server's clock is ahead of the client's */
  constructor(clock_ahead_ms = 0) {
    this.clock_ahead_ms = clock_ahead_ms;
  }

  /** The server's clock. */
  now() {
    return Date.now() + this.clock_ahead_ms;
  }

  /**
   * Publishes one frame. `data_text` is the payload as JSON text, for numbers that JavaScript cannot hold.
   * @returns {Entry}
   */
  publish({ topic, data, data_text, data_base64, bytes, kind, more }) {
    const text = bytes ? JSON.stringify("x".repeat(bytes)) : data_text ?? JSON.stringify(data ?? null);
    const payload = data_base64 === undefined ? `"data":${text}` : `"data_base64":"${data_base64}"`;
    const offset = ++this.offset;
    const members = [`"topic":${JSON.stringify(topic)}`, `"offset":${offset}`, `"ts":${this.now()}`];
    if (kind) members.push(`"kind":"${kind}"`);
    if (more) members.push(JSON.stringify(more).slice(1, -1));
    return this.#add({ offset, topic, kind, text: `{${[...members, payload].join(",")}}` });
  }

  /** Publishes a topic status: `gap`, `stale`, `live` or `refused`. @returns {Entry} */
  status({ op, topic, ...members }) {
    const offset = ++this.offset;
    const about = op === "stale" || op === "live" ? { topics: [topic] } : { topic };
    const since = op === "stale" ? { since_ms: this.now() } : {};
    const message = { op, ...about, ...since, ...members, offset, ts: this.now() };
    return this.#add({ offset, topic, op, reason: members.reason, text: JSON.stringify(message) });
  }

  /** Uses up offsets for topics that the server forgets. */
  leap(offsets) {
    this.offset += offsets;
  }

  /** A new run of offsets: everything is forgotten. */
  restart() {
    this.epoch = newEpoch();
    this.offset = 0;
    this.oldest = 1;
    this.entries = [];
  }

  /** What a client that joins is told, oldest first; of topics that changed after `changed_since` only. */
  current(patterns, changed_since = 0) {
    const told = [];
    for (const topic of new Set(this.entries.map((entry) => entry.topic))) {
      if (!covers(patterns, topic)) continue;
      const all = this.entries.filter((entry) => entry.topic === topic);
      if (all.at(-1).offset > changed_since) told.push(...retained(all));
    }
    return told.sort((a, b) => a.offset - b.offset);
  }

  /**
   * What a client is told that has everything up to `cursor`.
   * @returns {{entries: Entry[], skipped?: object, bad_cursor?: true}}
   */
  since(cursor, patterns) {
    const [epoch, text] = cursor.split(":");
    const offset = Number(text);
    if (!/^[0-9a-f]{16}:\d+$/.test(cursor)) return { entries: [], bad_cursor: true };
    if (epoch !== this.epoch) {
      return { entries: this.current(patterns), skipped: { op: "skipped", from: 0, to: this.offset, reason: "epoch" } };
    }
    if (offset > this.offset) return { entries: [], bad_cursor: true };
    const missed = this.entries.filter((entry) => entry.offset > offset && covers(patterns, entry.topic));
    if (!missed.some((entry) => entry.offset < this.oldest)) return { entries: missed };
    const skipped = { op: "skipped", from: offset + 1, to: this.offset, reason: "expired" };
    return { entries: this.current(patterns, offset), skipped };
  }

  #add(entry) {
    this.entries.push(entry);
    return entry;
  }
}

/** Of one topic: its value, or the snapshot and the deltas since, and the status that holds. */
function retained(all) {
  const frames = all.filter((entry) => !entry.op);
  const begin = frames.at(-1)?.kind ? frames.findLastIndex((frame) => frame.kind === "snapshot") : frames.length - 1;
  const kept = begin < 0 ? [] : frames.slice(begin);
  const status = all.at(-1);
  return status.op && status.op !== "live" ? [...kept, status] : kept;
}

function newEpoch() {
  return randomBytes(8).toString("hex");
}
