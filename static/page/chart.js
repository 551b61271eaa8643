/**
 * A chart over time. uPlot is loaded with the first one, so that the table does not wait for it.
 *
 * @module chart
 */

/** Ten charts a second look smooth; more is heat. */
const PAINT_MS = 100;
/** In pixels; labels are measured with the narrowest one. */
const AXIS_WIDTH_MIN = 40;
const CHARACTER_WIDTH = 7;

export class Chart {
  #element;
  #lines;
  #plot = null;
  #loading = null;
  #columns = null;
  #version = NaN;
  #paintedAt = 0;

  /** @param {HTMLElement} element @param {{label: string, colour: string}[]} lines `colour` is a variable of the style sheet */
  constructor(element, lines) {
    [this.#element, this.#lines] = [element, lines];
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#plot?.redraw());
  }

  /** Forgets what is drawn: the next data are of something else. */
  clear() {
    [this.#version, this.#paintedAt] = [NaN, 0];
    if (this.#plot) this.#plot.axisWidth = AXIS_WIDTH_MIN;
  }

  /**
   * Draws if the version is another one, and not too often.
   * @param {number} now in ms
   * @param {number} version of the data
   * @param {() => (number|null)[][]} read seconds, and values by line; null is a gap
   */
  paint(now, version, read) {
    if (version === this.#version || now - this.#paintedAt < PAINT_MS) return;
    [this.#version, this.#paintedAt] = [version, now];
    this.#columns = read();
    this.#loading ??= this.#load();
    this.#plot?.setData(this.#columns);
  }

  #size() {
    const { clientWidth: width, clientHeight: height } = this.#element;
    return { width, height };
  }

  async #load() {
    const { default: UPlot } = await import("../vendor/uplot/uPlot.esm.js");
    const colour = (name) => () => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const [first] = this.#lines;
    const options = {
      ...this.#size(),
      legend: { show: false },
      cursor: { drag: { x: false, y: false } },
      scales: { x: { time: true } },
      axes: [
        { ...axis, size: 30, space: 80, values: (_, ticks) => ticks.map(clockText) },
        { ...axis, size: axisWidth, values: (_, ticks, __, ___, step) => ticks.map((tick) => axisText(tick, step)) },
      ],
      series: [
        {},
        ...this.#lines.map((line) => ({
          label: line.label,
          stroke: colour(line.colour),
          width: 1.5,
          fill: line === first ? colour("--accent-wash") : undefined,
          points: { show: false },
        })),
      ],
    };
    this.#plot = new UPlot(options, this.#columns, this.#element);
  }
}

const clockText = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hourCycle: "h23" });

function axisText(tick, step) {
  const decimals = Math.min(Math.max(-Math.floor(Math.log10(step) + 1e-9), 0), 10);
  return tick.toFixed(decimals);
}

/** As wide as the longest label, so that none is cut; never narrower than before, so that the chart does not jump. */
function axisWidth(plot, labels) {
  const characters = Math.max(0, ...(labels ?? []).map((label) => label.length));
  plot.axisWidth = Math.max(plot.axisWidth ?? AXIS_WIDTH_MIN, characters * CHARACTER_WIDTH + 16);
  return plot.axisWidth;
}
