/**
 * The patterns that somebody subscribes to, and what the server knows of them. Part of `fanline.js`.
 *
 * Commands are derived from it: what was asked for while there was no connection needs no buffer.
 *
 * @module interests
 */

import { paceOf } from "./options.js";

/**
 * One pattern: how many subscriptions use it, whether it was asked for on this connection, whether the server has confirmed it,
 * and why it is not in force, or not sent by the feed.
 * @typedef {{users: number, isSent: boolean, isInForce: boolean, refusal?: string}} Interest
 */

/** By pattern. @extends {Map<string, Interest>} */
export class Interests extends Map {
  /** That the server knows, in ms. */
  pace = 0;
  #options;
  #link;
  #place;
  #onAnswer;

  /**
   * @param {import("./options.js").Settings} options @param {import("./link.js").Link} link @param {import("./place.js").Place} place
   * @param {(answer: any, patterns: string[], since?: string) => void} onAnswer to what was asked for
   */
  constructor(options, link, place, onAnswer) {
    super();
    this.#options = options;
    this.#link = link;
    this.#place = place;
    this.#onAnswer = onAnswer;
  }

  /** A subscription uses the patterns. @param {string[]} patterns @returns {Interest[]} */
  use(patterns) {
    return patterns.map((pattern) => {
      const it = this.get(pattern) ?? { users: 0, isSent: false, isInForce: false };
      this.set(pattern, it);
      it.users += 1;
      return it;
    });
  }

  /** A connection is open: everything is asked for. */
  open() {
    const resumed = this.#place.open([...this.keys()]);
    this.subscribe(resumed, this.#place.since);
    this.subscribe(this.#where(({ isSent }) => !isSent));
  }

  /** The server is told what has changed. Returns whether patterns were given back. */
  tell() {
    const unused = this.#where(({ users }) => !users);
    const given = unused.filter((pattern) => {
      const { isSent, isInForce, refusal } = /** @type {Interest} */ (this.get(pattern));
      this.delete(pattern);
      return isSent && (isInForce || !refusal);
    });
    if (given.length) this.#link.send({ op: "unsubscribe", topics: given });
    const fresh = this.#where(({ isSent }) => !isSent);
    // Naming a pattern again changes nothing but the pace.
    const isPaced = fresh.length || paceOf(this.#options) === this.pace;
    this.subscribe(isPaced ? fresh : this.inForce.slice(0, 1));
    return unused.length > 0;
  }

  /** @param {string[]} patterns @param {string} [since] */
  subscribe(patterns, since) {
    if (!patterns.length || !this.#link.isUsable) return;
    const pace = paceOf(this.#options);
    const every_ms = pace === this.pace ? undefined : pace;
    this.pace = pace;
    for (const pattern of patterns) Object.assign(/** @type {Interest} */ (this.get(pattern)), { isSent: true, refusal: undefined });
    this.#link.send({ op: "subscribe", topics: patterns, since, every_ms }, (answer) => this.#onAnswer(answer, patterns, since));
  }

  /** @param {string[]} patterns */
  confirm(patterns) {
    for (const pattern of patterns) {
      const it = this.get(pattern);
      if (it?.isSent) [it.isInForce, it.refusal] = [true, undefined];
    }
  }

  /** They are not in force. @param {string[]} patterns @param {string} refusal why */
  refuse(patterns, refusal) {
    for (const pattern of patterns) Object.assign(this.get(pattern) ?? {}, { isInForce: false, refusal });
  }

  /** The connection is over. */
  lost() {
    for (const it of this.values()) [it.isSent, it.isInForce, it.refusal] = [false, false, undefined];
  }

  get inForce() {
    return this.#where(({ isInForce }) => isInForce);
  }

  /** @param {(it: Interest) => boolean} holds */
  #where(holds) {
    return [...this.keys()].filter((pattern) => holds(/** @type {Interest} */ (this.get(pattern))));
  }
}
