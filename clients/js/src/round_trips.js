/**
 * The server's clock as measured by pings. Part of `watch.js`.
 *
 * An answer that this side was too busy to read at once makes the offset look too great: of the recent ones the best counts.
 *
 * @module round_trips
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

export class RoundTrips {
  /** @type {{at: number, roundTrip: number, offset: number}[]} */
  #samples = [];
  #clock;

  /** @param {import("./clock.js").Clock} clock */
  constructor(clock) {
    this.#clock = clock;
  }

  /**
   * A ping was answered; returns whether another one should follow at once.
   * @param {number} sent when @param {number} ts what the server's clock said
   */
  measured(sent, ts) {
    const now = this.#clock.now();
    this.#samples.push({ at: now, roundTrip: now - sent, offset: (now + sent) / 2 - ts });
    const doubt = (/** @type {{at: number, roundTrip: number}} */ sample) => sample.roundTrip / 2 + (now - sample.at) * DRIFT;
    const best = this.#samples.reduce((a, b) => (doubt(b) < doubt(a) ? b : a));
    // The best one stays, however old it is.
    if (this.#samples.length > SAMPLES) this.#samples.splice(this.#samples[0] === best ? 1 : 0, 1);
    // The bound of before holds as well; from here on there is a new one.
    const estimate = Math.min(best.offset, this.#clock.bound);
    Object.assign(this.#clock, { estimate, bound: now - ts, roundTrip: best.roundTrip });
    return this.#samples.length < SAMPLES_AT_ONCE;
  }
}
