/**
 * The server's clock, as told by its answers to pings. Part of `fanline.js`.
 *
 * An answer that this side was too busy to read at once makes the offset look too great. But nothing is heard before it
 * was said: no message may seem to come from the future, and the offset is lowered until none does.
 *
 * @module server_clock
 */

/** Of the recent round trips the best one counts. */
const SAMPLES = 8;
/**
 * How fast two clocks may drift apart, in ms per ms: what is known of the offset becomes worse by that. A short round trip so
 * counts for longer than the many long ones of a page that cannot keep up, each of which makes the offset look too great
 * by up to its half. 200 ppm is twice what a poor quartz does.
 */
const DRIFT = 2e-4;
/** This many pings in a row at the start, so that the first estimate is a good one. */
const SAMPLES_AT_ONCE = 4;

export class ServerClock {
  /** Shortest of the recent round trips in ms; NaN before the first answer. */
  roundTrip = NaN;
  /** @type {Map<number, number>} */
  #sent = new Map(); // id -> when
  /** @type {{at: number, roundTrip: number, offset: number}[]} */
  #samples = [];
  #estimate = Infinity; // of the offset, from the best round trip
  #bound = Infinity; // smallest difference of a message since the last answer to a ping
  #boundBefore = Infinity; // the same before that answer

  /** The client's clock minus the server's in ms; NaN before the first message. */
  get offset() {
    const offset = Math.min(this.#estimate, this.#bound, this.#boundBefore);
    return offset === Infinity ? NaN : offset;
  }

  /** A message that says the server's time, or an earlier one. @param {number} now @param {number} ts */
  heard(now, ts) {
    if (now - ts < this.#bound) this.#bound = now - ts;
  }

  /** @param {number} id of a ping that is sent @param {number} now */
  asked(id, now) {
    this.#sent.set(id, now);
  }

  /** An answer; returns whether another ping should follow at once. @param {{id: number, ts: number}} pong @param {number} now */
  answered({ id, ts }, now) {
    const sent = this.#sent.get(id);
    if (sent === undefined) return false;
    this.#sent.delete(id);
    this.#samples.push({ at: now, roundTrip: now - sent, offset: (now + sent) / 2 - ts });
    const doubt = (/** @type {{at: number, roundTrip: number}} */ sample) => sample.roundTrip / 2 + (now - sample.at) * DRIFT;
    const best = this.#samples.reduce((a, b) => (doubt(b) < doubt(a) ? b : a));
    // The best one stays, however old it is.
    if (this.#samples.length > SAMPLES) this.#samples.splice(this.#samples[0] === best ? 1 : 0, 1);
    [this.#estimate, this.roundTrip] = [best.offset, best.roundTrip];
    [this.#boundBefore, this.#bound] = [this.#bound, now - ts];
    return this.#samples.length < SAMPLES_AT_ONCE;
  }

  /** The connection is lost: what was asked is not answered any more. */
  lost() {
    this.#sent.clear();
  }
}
