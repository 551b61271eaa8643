/**
 * The server's metrics, read from the Prometheus text format (0.0.4). No DOM.
 *
 * @module exposition
 */

/** @typedef {{labels: Record<string, string>, value: number}} Series */

export class Exposition {
  #series = new Map(); // name -> Series[]

  /** @param {string} text */
  constructor(text) {
    for (const line of text.split("\n")) {
      const parts = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
      if (!parts) continue;
      const [, name, labels = "", value] = parts;
      if (!this.#series.has(name)) this.#series.set(name, []);
      this.#series.get(name).push({ labels: readLabels(labels), value: readNumber(value) });
    }
  }

  /** @param {string} name @returns {Series[]} */
  all(name) {
    return this.#series.get(name) ?? [];
  }

  /** The sum of the series that have these labels; NaN if there is none. @param {string} name @param {Record<string, string>} [labels] */
  sum(name, labels = {}) {
    const wanted = Object.entries(labels);
    const found = this.all(name).filter((series) => wanted.every(([key, value]) => series.labels[key] === value));
    return found.length ? found.reduce((sum, { value }) => sum + value, 0) : NaN;
  }

  /** The value of a label where the series is greatest: of states, the one that holds. @param {string} name @param {string} label */
  leading(name, label) {
    const [first] = this.all(name).toSorted((a, b) => b.value - a.value);
    return first && first.value > 0 ? first.labels[label] : "";
  }

  /** Values by the values of a label. @param {string} name @param {string} label @returns {Map<string, number>} */
  by(name, label) {
    const sums = new Map();
    for (const { labels, value } of this.all(name)) sums.set(labels[label], (sums.get(labels[label]) ?? 0) + value);
    return sums;
  }

  /** Counts of a histogram's buckets, not cumulative, by their upper bound. @param {string} name @returns {{bound: number, count: number}[]} */
  histogram(name) {
    const sums = [...this.by(`${name}_bucket`, "le")].map(([le, count]) => ({ bound: readNumber(le), count }));
    sums.sort((a, b) => a.bound - b.bound);
    return sums.map(({ bound, count }, i) => ({ bound, count: count - (sums[i - 1]?.count ?? 0) }));
  }
}

function readLabels(text) {
  const labels = {};
  for (const [, key, value] of text.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)) {
    labels[key] = value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
  }
  return labels;
}

const readNumber = (text) => (text === "+Inf" ? Infinity : Number(text));
