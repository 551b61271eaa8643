/**
 * The recent values of one topic: bounded, thinned, with gaps where nothing was known.
 *
 * @module history
 */

/** 900 points, at most one per 200 ms: three minutes of the busiest topic, 14 kB; 1000 topics stay below 15 MB. */
const POINTS_MAX = 900;
const STEP_MS = 200;

export class History {
  #times = new Float64Array(32);
  #values = new Float64Array(32);
  #start = 0;
  /** How many points there are. */
  length = 0;
  /** Goes up with every change, for those who paint. */
  version = 0;
  /** Lowest and highest value since the start, thinned ones included. */
  range = { low: NaN, high: NaN };

  /**
   * @param {number} ms since the Unix epoch
   * @param {number} value NaN marks a gap
   */
  push(ms, value) {
    this.version += 1;
    if (!Number.isNaN(value)) this.#widen(value);
    const last = this.length - 1;
    const thin = last > 0 && ms - this.#at(this.#times, last - 1) < STEP_MS && !Number.isNaN(value);
    if (thin && !Number.isNaN(this.#at(this.#values, last))) {
      const i = (this.#start + last) % this.#times.length;
      [this.#times[i], this.#values[i]] = [ms, value];
      return;
    }
    if (this.length === this.#times.length) this.#makeRoom();
    const i = (this.#start + this.length) % this.#times.length;
    [this.#times[i], this.#values[i]] = [ms, value];
    this.length += 1;
  }

  #widen(value) {
    if (!(value >= this.range.low)) this.range.low = value;
    if (!(value <= this.range.high)) this.range.high = value;
  }

  /** Nothing is known from here on until the next value. @param {number} ms */
  gap(ms) {
    if (this.length && !Number.isNaN(this.#at(this.#values, this.length - 1))) this.push(ms, NaN);
  }

  clear() {
    [this.#start, this.length, this.version] = [0, 0, this.version + 1];
    this.range = { low: NaN, high: NaN };
  }

  /** The newest `count` values, oldest first; gaps are NaN. @param {number} count */
  values(count) {
    const from = Math.max(this.length - count, 0);
    return Array.from({ length: this.length - from }, (_, i) => this.#at(this.#values, from + i));
  }

  /** Everything as uPlot takes it: seconds, and values with null for a gap. */
  columns() {
    const times = Array.from({ length: this.length }, (_, i) => this.#at(this.#times, i) / 1000);
    const values = this.values(this.length).map((value) => (Number.isNaN(value) ? null : value));
    return [times, values];
  }

  #at(column, i) {
    return column[(this.#start + i) % column.length];
  }

  #makeRoom() {
    const size = Math.min(this.#times.length * 2, POINTS_MAX);
    if (size === this.#times.length) {
      this.#start = (this.#start + 1) % size;
      this.length -= 1;
      return;
    }
    const moved = (column) => {
      const wider = new Float64Array(size);
      for (let i = 0; i < this.length; i++) wider[i] = this.#at(column, i);
      return wider;
    };
    [this.#times, this.#values] = [moved(this.#times), moved(this.#values)];
    this.#start = 0;
  }
}
