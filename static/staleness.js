/**
 * Which topics the server has called stale. Part of `fanline.js`.
 *
 * @module staleness
 */

import { matches } from "./pattern.js";

export class Staleness {
  #notices = []; // { pattern, stale }: the newest that matches a topic decides

  /** A `stale` or a `live` message has come. @param {string[]} topics @param {boolean} stale */
  note(topics, stale) {
    // What a new pattern covers as a whole is superseded; only so does the list stay as short as the server's own.
    const covered = (old) => topics.some((p) => matches(p, old) && (p.endsWith(">") || !old.endsWith(">")));
    this.#notices = this.#notices.filter(({ pattern }) => !covered(pattern));
    this.#notices.push(...topics.map((pattern) => ({ pattern, stale })));
    if (!this.#notices.some((notice) => notice.stale)) this.clear();
  }

  /** @param {string} topic */
  covers(topic) {
    return this.#notices.findLast(({ pattern }) => matches(pattern, topic))?.stale ?? false;
  }

  clear() {
    this.#notices = [];
  }
}
