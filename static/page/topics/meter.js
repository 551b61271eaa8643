/**
 * Rates and latencies over the last seconds.
 *
 * @module meter
 */

const WINDOW_MS = 5_000;
/** At 1000 messages a second the whole window; beyond that the newest of it. */
const SAMPLES_MAX = 5_000;

/** Growth per second of a counter. */
export class Rate {
  #marks = [];

  /** @param {number} now in ms @param {number} count @returns {number} per second over the window */
  mark(now, count) {
    this.#marks.push({ now, count });
    while (this.#marks.length > 2 && now - this.#marks[0].now > WINDOW_MS) this.#marks.shift();
    const first = this.#marks[0];
    return now > first.now ? ((count - first.count) * 1000) / (now - first.now) : 0;
  }
}

/** Quantiles of samples of the window. */
export class Quantiles {
  #times = new Float64Array(SAMPLES_MAX);
  #samples = new Float64Array(SAMPLES_MAX);
  #next = 0;

  /** @param {number} now in ms @param {number} sample */
  add(now, sample) {
    const i = this.#next++ % SAMPLES_MAX;
    [this.#times[i], this.#samples[i]] = [now, sample];
  }

  /** The given quantiles, or null where the window is empty. @param {number} now @param {number[]} quantiles */
  read(now, quantiles) {
    const held = Math.min(this.#next, SAMPLES_MAX);
    const recent = this.#samples.subarray(0, held).filter((_, i) => now - this.#times[i] <= WINDOW_MS);
    if (!recent.length) return null;
    recent.sort();
    return quantiles.map((q) => recent[Math.min(Math.floor(q * recent.length), recent.length - 1)]);
  }
}
