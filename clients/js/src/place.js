/**
 * Where in the feed's log a client is, and whether it has all that it missed. Part of `fanline.js`.
 *
 * @module place
 */

export class Place {
  epoch = "";
  /** Greatest offset seen in a frame or a heartbeat of the epoch. */
  offset = 0;
  /** Offset of the newest frame when the server said welcome. */
  head = 0;
  /** What comes with an offset beyond is live. */
  liveAfter = 0;
  /** No current values are outstanding. */
  isSettled = false;
  /** Everything missed between the connections has arrived. */
  caughtUp = false;
  /** Frames that arrive now may be older than the newest of their topic. */
  isReplaying = false;
  #isAnswered = false; // a `subscribed` has arrived on this connection
  #isInOrder = false; // nothing but what a cursor asked for has come on this connection
  #settledBy = 0; // a frame from this offset on says that all current values have arrived
  /** @type {{has: (pattern: string) => boolean}} */
  #held = new Set(); // patterns for which (epoch, offset) is a valid cursor
  #onReplayed;

  /** @param {() => void} onReplayed a replay is over */
  constructor(onReplayed) {
    this.#onReplayed = onReplayed;
  }

  /** Up to where it has heard. */
  get reach() {
    return Math.max(this.offset, this.liveAfter);
  }

  /** Continues another client. @param {string} cursor */
  continue(cursor) {
    this.#goTo(cursor);
    this.#held = { has: () => true };
  }

  /** Other offsets follow. @param {string} epoch */
  begin(epoch) {
    [this.epoch, this.offset] = [epoch, 0];
  }

  /** A connection is open. Returns the cursor, and the patterns that are resumed from it. @param {string[]} wanted @returns {[string, string[]]} */
  resume(wanted) {
    const since = this.epoch && `${this.epoch}:${this.offset}`;
    const resumed = since ? wanted.filter((pattern) => this.#held.has(pattern)) : [];
    [this.liveAfter, this.isReplaying] = [0, resumed.length > 0];
    return [since, resumed];
  }

  /** Another view follows. @param {number} head @param {boolean} isAnew */
  look(head, isAnew) {
    [this.head, this.liveAfter, this.isReplaying] = [head, 0, !isAnew];
    this.#unsettle();
  }

  /** A subscription has been answered. @param {number} offset @param {string} [since] the cursor that it named */
  answered(offset, since) {
    this.liveAfter = Math.max(this.liveAfter, offset);
    // What follows the first answer comes in order; what follows another is told from the live stream by a later one.
    this.#isInOrder = !this.#isAnswered && !!since;
    this.#settledBy = this.#isAnswered ? this.liveAfter + 1 : this.liveAfter;
    this.#isAnswered = true;
    this.isSettled = false;
    if (offset === 0 || (since && offset <= this.offset)) this.#settle();
  }

  /** Something with this offset has come. @param {number} offset @param {number} [settledBy] */
  advance(offset, settledBy = this.#settledBy) {
    if (offset > this.offset) this.offset = offset;
    if (offset >= settledBy && this.#isAnswered && !this.isSettled) this.#settle();
  }

  /** The server does not know the cursor. Returns the offset from which on it has nothing. @param {string} since */
  refused(since) {
    [this.isReplaying, this.offset] = [false, 0];
    return Math.min(Number(since.split(":")[1]), this.head) + 1;
  }

  /** The connection is lost. @param {Set<string>} inForce @param {string} [cursor] where to go on */
  lost(inForce, cursor) {
    // Current values that were still to come are not covered by the cursor: then the next connection starts over.
    if (this.#isAnswered) this.#held = cursor || this.isSettled || this.#isInOrder ? new Set(inForce) : new Set();
    if (this.#isAnswered && cursor) this.#goTo(cursor);
    this.#unsettle();
  }

  #unsettle() {
    this.#isAnswered = this.isSettled = this.caughtUp = false;
  }

  #settle() {
    this.isSettled = this.caughtUp = true;
    if (!this.isReplaying) return;
    this.isReplaying = false;
    this.#onReplayed();
  }

  /** @param {string} cursor */
  #goTo(cursor) {
    const [epoch, offset] = cursor.split(":");
    [this.epoch, this.offset] = [epoch, Number(offset)];
  }
}
