/**
 * The newest so many of something: trades, lines of a chat. No DOM.
 *
 * @module messages
 */

/** @template T */
export class Messages {
  /** Goes up with every message, for those who paint. */
  version = 0;
  #kept = [];
  #max;

  /** @param {number} max */
  constructor(max) {
    this.#max = max;
  }

  /** @param {T} message */
  push(message) {
    this.version += 1;
    this.#kept.push(message);
    // Cut now and then, not each time: that would move all of them.
    if (this.#kept.length >= 2 * this.#max) this.#kept = this.#kept.slice(-this.#max);
  }

  clear() {
    [this.#kept, this.version] = [[], this.version + 1];
  }

  /** The newest first. @param {number} [count] @returns {T[]} */
  newest(count = this.#max) {
    return this.#kept.slice(-Math.min(count, this.#max)).reverse();
  }

  get length() {
    return Math.min(this.#kept.length, this.#max);
  }
}
