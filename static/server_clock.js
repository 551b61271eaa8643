/**
 * The server's clock, as told by its answers to pings. Part of `fanline.js`.
 *
 * @module server_clock
 */

/** The best of 8 round trips, 10 s apart: follows a drifting clock within 80 s, ignores single late answers. */
const SAMPLES = 8;
/** This many pings in a row at the start, so that the first estimate is a good one. */
const SAMPLES_AT_ONCE = 4;

export class ServerClock {
  /** The client's clock minus the server's in ms; NaN before the first welcome. */
  offset = NaN;
  /** Round trip of the ping that `offset` was taken from, in ms; NaN before the first answer. */
  roundTrip = NaN;
  #sent = new Map(); // id -> when
  #samples = [];

  /** A message that says the server's time but not how long it took. @param {number} now @param {number} ts */
  guess(now, ts) {
    if (!this.#samples.length) this.offset = now - ts;
  }

  /** @param {number} id of a ping that is sent @param {number} now */
  asked(id, now) {
    this.#sent.set(id, now);
  }

  /** An answer; returns whether another ping should follow at once. @param {{id: number, ts: number}} pong */
  answered({ id, ts }, now) {
    const sent = this.#sent.get(id);
    if (!this.#sent.delete(id)) return false;
    this.#samples.push({ roundTrip: now - sent, offset: (now + sent) / 2 - ts });
    if (this.#samples.length > SAMPLES) this.#samples.shift();
    const best = this.#samples.reduce((a, b) => (b.roundTrip < a.roundTrip ? b : a));
    [this.offset, this.roundTrip] = [best.offset, best.roundTrip];
    return this.#samples.length < SAMPLES_AT_ONCE;
  }

  /** The connection is lost: what was asked is not answered any more. */
  lost() {
    this.#sent.clear();
  }
}
