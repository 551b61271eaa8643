/**
 * Where a client is in the server's log: what it has of it, and whether all that it missed has come. Part of `fanline.js`.
 *
 * A cursor says only of patterns that were in force, and whose current values have arrived, that everything up to it is known.
 *
 * @module place
 */

export class Place {
  epoch = "";
  /** Greatest offset seen in a frame or a heartbeat of the epoch. */
  offset = 0;
  /** Frames beyond it are live. */
  liveAfter = 0;
  /** No current values are outstanding. */
  isSettled = false;
  /** Everything missed between the connections has arrived. */
  caughtUp = false;
  /** Frames that arrive now may be older than the newest of their topic. */
  isReplaying = false;
  #head = 0; // offset of the newest frame when the server greeted
  /** @type {{has: (pattern: string) => boolean}} */
  #held = new Set(); // patterns for which the cursor is valid
  #settledBy = 0; // a frame from this offset on says that all current values have arrived
  #isAnswered = false; // a `subscribed` has arrived on this connection
  #isInOrder = false; // nothing but what a cursor asked for has come on this connection
  #onReplayed;

  /** @param {() => void} onReplayed */
  constructor(onReplayed) {
    this.#onReplayed = onReplayed;
  }

  /** Where to resume; empty before anything is known. */
  get since() {
    return this.epoch && `${this.epoch}:${this.offset}`;
  }

  /** Where another client could resume; undefined while that is not known. @returns {string | undefined} */
  get cursor() {
    return (this.isSettled && this.since) || undefined;
  }

  /** A cursor of before holds for whatever is asked for. @param {string} cursor */
  resume(cursor) {
    this.#goTo(cursor);
    this.#held = { has: () => true };
  }

  /** The server says where it is. Returns whether other offsets follow. @param {any} place @param {boolean} [isAnew] */
  greeted({ epoch, offset }, isAnew = epoch !== this.epoch) {
    if (isAnew) [this.epoch, this.offset] = [epoch, 0];
    this.#head = offset;
    return isAnew;
  }

  /** A connection is open. Returns the patterns of which it goes on where it was. @param {string[]} patterns */
  open(patterns) {
    const resumed = this.epoch ? patterns.filter((pattern) => this.#held.has(pattern)) : [];
    [this.liveAfter, this.isReplaying] = [0, resumed.length > 0];
    return resumed;
  }

  /** The server continues with another view. Returns whether that is another log, or behind what is known. @param {any} view */
  turn(view) {
    // In the same log it continues, unless the view is behind what this client has.
    const isAnew = this.greeted(view, view.epoch !== this.epoch || view.offset < this.offset);
    [this.liveAfter, this.isReplaying] = [0, !isAnew];
    this.#unsettle();
    return isAnew;
  }

  /** The server has answered a `subscribe`, with a cursor or without. @param {number} offset @param {string} [since] */
  answered(offset, since) {
    this.liveAfter = Math.max(this.liveAfter, offset);
    // What follows the first answer comes in order; what follows another is told from the live stream by a later one.
    this.#isInOrder = !this.#isAnswered && !!since;
    this.#settledBy = this.#isAnswered ? this.liveAfter + 1 : this.liveAfter;
    this.#isAnswered = true;
    this.isSettled = false;
    if (offset === 0 || (since && offset <= this.offset)) this.#settle();
  }

  /** Something with an offset has come. @param {number} offset @param {boolean} [settles] */
  advance(offset, settles = offset >= this.#settledBy) {
    if (offset > this.offset) this.offset = offset;
    if (settles && this.#isAnswered && !this.isSettled) this.#settle();
  }

  /** The server does not know the cursor: current values follow. Returns what is skipped. @param {string} since */
  refuse(since) {
    const from = Math.min(Number(since.split(":")[1]), this.#head) + 1;
    [this.isReplaying, this.offset] = [false, 0];
    return { from, to: this.#head };
  }

  /** The connection is over. @param {Iterable<string>} inForce patterns @param {string} [cursor] where to go on, if the transport knows */
  lost(inForce, cursor) {
    if (this.#isAnswered) {
      // Current values that were still to come are not covered by the cursor: then the next connection starts over.
      this.#held = new Set(cursor || this.isSettled || this.#isInOrder ? inForce : []);
      if (cursor) this.#goTo(cursor);
    }
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
