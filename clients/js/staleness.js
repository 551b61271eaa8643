/**
 * Which topics the server has called stale. Part of `fanline.js`.
 *
 * The feed's state and a topic's own are apart: what is live again as a feed may still be silent as a topic.
 *
 * @module staleness
 */

import { matches } from "./pattern.js";

export class Staleness {
  #notices = []; // { pattern, stale } of the feed: the newest that matches a topic decides
  #topics = new Set(); // topics that are stale or refused by themselves

  /** A `stale` or a `live` message of the feed has come. @param {string[]} topics @param {boolean} stale */
  note(topics, stale) {
    // What a new pattern covers as a whole is superseded; only so does the list stay as short as the server's own.
    const covered = (old) => topics.some((p) => matches(p, old) && (p.endsWith(">") || !old.endsWith(">")));
    this.#notices = this.#notices.filter(({ pattern }) => !covered(pattern));
    this.#notices.push(...topics.map((pattern) => ({ pattern, stale })));
    if (!this.#notices.some((notice) => notice.stale)) this.clear();
  }

  /** A message about one topic has come that says how it is doing, or a frame of it. @param {string} topic @param {boolean} stale */
  tell(topic, stale) {
    if (stale) this.#topics.add(topic);
    else this.#topics.delete(topic);
  }

  /** @param {string} topic */
  covers(topic) {
    return this.#topics.has(topic) || (this.#notices.findLast(({ pattern }) => matches(pattern, topic))?.stale ?? false);
  }

  /** The feed's state is to be told anew. */
  clear() {
    this.#notices = [];
  }

  /** Nothing is known any more of topics that `kept` does not hold. @param {(topic: string) => boolean} kept */
  retain(kept) {
    for (const topic of this.#topics) if (!kept(topic)) this.#topics.delete(topic);
  }
}
