/**
 * What is known of each topic: its newest frame, what a late subscription gets of it, whether the server calls it stale, and how
 * much later than received it sends it. Part of `fanline.js`.
 *
 * The feed's state and a topic's own are apart: what is live again as a feed may still be silent as a topic.
 *
 * @module topics
 */

import { covers, matches } from "./pattern.js";

/** Deltas of one topic that are kept for late subscriptions; beyond, those wait for the next snapshot. */
const CHANGES_MAX = 1000;

/** @typedef {import("./options.js").Frame} Frame */
/**
 * `frame` is the newest, and `connection` has sent it; `told` is what a late subscription gets: that frame, or the snapshot
 * and the deltas since. `trouble` is why the topic is stale or refused by itself.
 * @typedef {{frame?: Frame, connection?: number, told: [Frame, string][], trouble?: string}} Topic
 */

/** By name, of topics that a subscription covers. @extends {Map<string, Topic>} */
export class Topics extends Map {
  /** In ms by pattern, of which the first that matches counts. @type {Record<string, number>} */
  delays = {};
  /** @type {{pattern: string, trouble?: string}[]} */
  #notices = []; // of the feed: the newest that matches a topic decides

  /** Returns whether the frame is new. @param {Frame} frame @param {string} text @param {number} connection */
  take(frame, text, connection) {
    const known = this.#of(frame.topic);
    const isNew = !(/** @type {Frame} */ (known.frame)?.offset >= frame.offset);
    known.connection = connection; // sent again after a reconnect: nothing new, but now confirmed
    if (!isNew) return false;
    known.frame = frame;
    const isDelta = frame.kind === "delta";
    if (!isDelta) known.told = [];
    if (isDelta && (known.told[0]?.[0].kind !== "snapshot" || known.told.length > CHANGES_MAX)) known.told = [];
    else known.told.push([frame, text]);
    return true;
  }

  /** A snapshot and its deltas were not sent. @param {string} topic @param {number} offset */
  overflow(topic, offset) {
    const known = this.get(topic);
    if (known?.frame && known.frame.offset < offset) known.told = [];
  }

  /** What a subscription to the patterns gets at once. @param {readonly string[]} patterns */
  told(patterns) {
    return [...this].flatMap(([topic, { told }]) => (covers(patterns, topic) ? told : []));
  }

  /** A `stale` or a `live` message of the feed has come. @param {string[]} patterns @param {string} [trouble] none: they are live */
  note(patterns, trouble) {
    // What was said before of the same pattern, or of any, is superseded: the list has each pattern of the server once.
    this.#notices = this.#notices.filter(({ pattern }) => !patterns.includes(pattern) && !patterns.includes(">"));
    this.#notices.push(...patterns.map((pattern) => ({ pattern, trouble })));
    if (!this.#notices.some((notice) => notice.trouble)) this.forgive();
  }

  /** The feed's state is to be told anew. */
  forgive() {
    this.#notices = [];
  }

  /**
   * A message about one topic has come that says how it is doing, or a frame of it. Returns whether that is new.
   * @param {string} topic @param {string} [trouble] none: it is live
   */
  tell(topic, trouble) {
    const known = this.#of(topic);
    const isNew = known.trouble !== trouble;
    known.trouble = trouble;
    return isNew;
  }

  /** Why values of the topic may be outdated; empty if they are not. @param {string} topic */
  trouble(topic) {
    return this.get(topic)?.trouble ?? this.#notices.findLast(({ pattern }) => matches(pattern, topic))?.trouble ?? "";
  }

  /** @param {number | Record<string, number>} [delay_ms] of all topics, or by pattern */
  delay(delay_ms = 0) {
    this.delays = typeof delay_ms === "number" ? { ">": delay_ms } : delay_ms;
  }

  /** @param {string} topic */
  delayOf(topic) {
    return Object.entries(this.delays).find(([pattern]) => covers([pattern], topic))?.[1] ?? 0;
  }

  /** Nothing is known any more of topics that no pattern covers. @param {string[]} patterns */
  retain(patterns) {
    for (const topic of this.keys()) if (!covers(patterns, topic)) this.delete(topic);
  }

  /** @param {string} topic @returns {Topic} */
  #of(topic) {
    const known = this.get(topic) ?? { told: [] };
    this.set(topic, known);
    return known;
  }
}
