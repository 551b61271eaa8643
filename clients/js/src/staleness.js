/**
 * Which topics the server has called stale. Part of `fanline.js`.
 *
 * The feed's state and a topic's own are apart: what is live again as a feed may still be silent as a topic.
 *
 * @module staleness
 */

import { matches } from "./pattern.js";

export class Staleness {
  /** @type {{pattern: string, trouble?: string}[]} */
  #notices = []; // of the feed: the newest that matches a topic decides
  /** @type {Map<string, string>} */
  #topics = new Map(); // topics that are stale or refused by themselves, and why

  /** A `stale` or a `live` message of the feed has come. @param {string[]} topics @param {string} [trouble] none: they are live */
  note(topics, trouble) {
    // What a new pattern covers as a whole is superseded; only so does the list stay as short as the server's own.
    const covered = (/** @type {string} */ old) => topics.some((p) => matches(p, old) && (p.endsWith(">") || !old.endsWith(">")));
    this.#notices = this.#notices.filter(({ pattern }) => !covered(pattern));
    this.#notices.push(...topics.map((pattern) => ({ pattern, trouble })));
    if (!this.#notices.some((notice) => notice.trouble)) this.clear();
  }

  /**
   * A message about one topic has come that says how it is doing, or a frame of it. Returns whether that is new.
   * @param {string} topic @param {string} [trouble] none: it is live
   */
  tell(topic, trouble) {
    const before = this.#topics.get(topic);
    if (trouble) this.#topics.set(topic, trouble);
    else this.#topics.delete(topic);
    return before !== trouble;
  }

  /** Why values of the topic may be outdated; empty if they are not. @param {string} topic */
  reason(topic) {
    return this.#topics.get(topic) ?? this.#notices.findLast(({ pattern }) => matches(pattern, topic))?.trouble ?? "";
  }

  /** The feed's state is to be told anew. */
  clear() {
    this.#notices = [];
  }

  /** Nothing is known any more of topics that `kept` does not hold. @param {(topic: string) => boolean} kept */
  retain(kept) {
    for (const topic of this.#topics.keys()) if (!kept(topic)) this.#topics.delete(topic);
  }
}
