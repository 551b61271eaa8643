/**
 * How old what is known of the server is, by the server's own clock. Part of `fanline.js`.
 *
 * Every message says when the server said it. A page that cannot keep up reads messages long after that; a page that was
 * frozen, or whose network is gone, reads none. Either way the newest thing known is old, and no value is current.
 *
 * @module freshness
 */

export class Freshness {
  /** How late the newest message was when it was read, in ms. */
  lateness = 0;
  /** A message that is read later than this is late. */
  late_ms;
  /** A server of which nothing is heard for longer is out of reach. */
  silent_ms = Infinity;
  #saidAt = NaN; // when the server said the newest message, on this side's clock
  #heardAt = NaN; // when it was read
  #doubtedAt = NaN; // NaN: there is no doubt

  /** @param {number} late_ms */
  constructor(late_ms) {
    this.late_ms = late_ms;
  }

  /** A message has been read. @param {number} now @param {number} saidAt when the server said it, on this side's clock */
  heard(now, saidAt) {
    [this.#saidAt, this.#heardAt] = [saidAt, now];
    this.lateness = Math.max(now - saidAt, 0);
    // What was on its way when the doubt arose does not end it.
    if (saidAt >= this.#doubtedAt) this.#doubtedAt = NaN;
  }

  /** There is reason to believe that nothing can be heard from now on. @param {number} now */
  doubt(now) {
    this.#doubtedAt = now;
  }

  /** Milliseconds since the server said the newest thing that is known; NaN before the first. @param {number} now */
  age(now) {
    return Math.max(now - this.#saidAt, 0);
  }

  /** Whether the server is out of reach, as far as can be known. @param {number} now */
  isSilent(now) {
    return !isNaN(this.#doubtedAt) || now - this.#heardAt > this.silent_ms;
  }

  /** Whether values cannot be called current. @param {number} now */
  isLate(now) {
    return this.lateness > this.late_ms || this.isSilent(now);
  }
}
