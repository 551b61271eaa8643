/**
 * The server's clock, as far as it is known, and how old by it is what was heard. Part of `fanline.js`.
 *
 * Every message says when the server said it. A page that cannot keep up reads messages long after that; a page that was
 * frozen, or whose network is gone, reads none. Either way the newest thing known is old, and no value is current.
 *
 * Nothing is heard before it was said: no message may seem to come from the future, and the offset is lowered until none does.
 * Round trips (`round_trips.js`) make it more exact.
 *
 * @module clock
 */

export class Clock {
  /** This side's clock: milliseconds since the Unix epoch. */
  now;
  /** A message that is read later than this is late. */
  late_ms = Infinity;
  /** A server of which nothing is heard for longer is out of reach. */
  silent_ms = Infinity;
  /** How late the newest message was when it was read, in ms. */
  lateness = 0;
  /** Shortest of the recent round trips in ms; NaN before the first. */
  roundTrip = NaN;
  /** Of the offset, by the round trips. */
  estimate = Infinity;
  /** Smallest difference of a message since the last round trip, which the offset does not exceed. */
  bound = Infinity;
  #saidAt = NaN; // when the server said the newest message, on this side's clock
  #heardAt = NaN; // when it was read
  #doubtedAt = NaN; // NaN: there is no doubt

  /** @param {() => number} now */
  constructor(now) {
    this.now = now;
  }

  /** This side's clock minus the server's in ms; NaN before the first message. */
  get offset() {
    const offset = Math.min(this.estimate, this.bound);
    return offset < Infinity ? offset : NaN;
  }

  /** A message has been read. @param {number} [ts] when the server said it, or earlier */
  read(ts = NaN) {
    const difference = this.now() - ts;
    if (difference < this.bound) this.bound = difference;
  }

  /** It tells how late this side is. @param {number} saidAt when the server said it, on this side's clock */
  heard(saidAt) {
    const now = this.now();
    [this.#saidAt, this.#heardAt] = [saidAt, now];
    this.lateness = Math.max(now - saidAt, 0);
    // What was on its way when the doubt arose does not end it.
    if (saidAt >= this.#doubtedAt) this.#doubtedAt = NaN;
  }

  /** There is reason to believe that nothing can be heard from now on. */
  doubt() {
    this.#doubtedAt = this.now();
  }

  /** Milliseconds since the server said the newest thing that is known; NaN before the first. */
  get age() {
    return Math.max(this.now() - this.#saidAt, 0);
  }

  /** Whether the server is out of reach, as far as can be known. */
  get isSilent() {
    return !isNaN(this.#doubtedAt) || this.now() - this.#heardAt > this.silent_ms;
  }

  /** Whether values cannot be called current. */
  get isLate() {
    return this.lateness > this.late_ms || this.isSilent;
  }
}
