/**
 * What is wanted, and what of it the server has been asked for, has confirmed, or refuses. Part of `fanline.js`.
 *
 * @module patterns
 */

export class Patterns {
  /** How many subscriptions use a pattern. @type {Map<string, number>} */
  wanted = new Map();
  /** Confirmed by the server on this connection. @type {Set<string>} */
  inForce = new Set();
  /** Pattern or topic -> why it is not in force, or not sent by the feed. @type {Map<string, string>} */
  refusals = new Map();
  /** @type {Set<string>} */
  #sent = new Set(); // asked for on this connection
  /** @type {Map<number, {patterns: string[], since?: string}>} */
  #pending = new Map(); // by id: subscribe commands without an answer

  /** @returns {string[]} */
  get list() {
    return [...this.wanted.keys()];
  }

  /** A subscription comes, or goes. @param {readonly string[]} patterns @param {1|-1} change */
  use(patterns, change) {
    for (const pattern of patterns) {
      const users = (this.wanted.get(pattern) ?? 0) + change;
      if (users) this.wanted.set(pattern, users);
      else this.wanted.delete(pattern);
    }
  }

  /** @param {number} id of the command @param {string[]} patterns @param {string} [since] */
  asked(id, patterns, since) {
    this.#pending.set(id, { patterns, since });
    for (const pattern of patterns) {
      this.#sent.add(pattern);
      this.refusals.delete(pattern);
    }
  }

  /** The command that is answered. @param {any} id */
  take(id) {
    const command = this.#pending.get(id);
    this.#pending.delete(id);
    return command;
  }

  /** Wanted, and not asked for yet. */
  get fresh() {
    return this.list.filter((pattern) => !this.#sent.has(pattern));
  }

  /** Forgets what is not wanted any more; returns what of it is to be given back. */
  prune() {
    const unused = [...this.#sent].filter((pattern) => !this.wanted.has(pattern));
    const given = unused.filter((pattern) => !this.refusals.has(pattern));
    for (const pattern of unused) for (const it of [this.#sent, this.refusals, this.inForce]) it.delete(pattern);
    return given;
  }

  /** @param {string[]} patterns that the server has confirmed */
  permit(patterns) {
    for (const pattern of patterns) {
      if (!this.#sent.has(pattern)) continue;
      this.inForce.add(pattern);
      this.refusals.delete(pattern);
    }
  }

  /** @param {string[]} patterns that are not permitted any more */
  forbid(patterns) {
    for (const pattern of patterns) {
      this.inForce.delete(pattern);
      this.refusals.set(pattern, "forbidden");
    }
  }

  /** The connection is lost. */
  lost() {
    for (const it of [this.#sent, this.inForce, this.refusals, this.#pending]) it.clear();
  }
}
