/**
 * The panel of one selected topic: its chart, its facts, its newest message.
 *
 * uPlot is loaded with the first selection, so that the table does not wait for it.
 *
 * @module detail
 */

import { placeName, places } from "./payload.js";
import { age } from "./row.js";

/** Ten charts a second look smooth; more is heat. */
const CHART_MS = 100;
/** A message that long is cut: it is to be looked at, not to be read. */
const PAYLOAD_CHARS_MAX = 4_000;
const byId = (id) => document.getElementById(id);

export class Detail {
  row = null;
  #plot = null;
  #loading = null;
  #painted = { at: 0, version: -1, frame: null, state: "", places: "" };
  #onChoose;

  /** @param {{onChoose: (place: string|null) => void, onClose: () => void}} hooks */
  constructor({ onChoose, onClose }) {
    this.#onChoose = onChoose;
    byId("detail-close").addEventListener("click", onClose);
    byId("place").addEventListener("change", (event) => this.#onChoose(event.target.value || null));
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(byId("chart"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#plot?.redraw());
  }

  /** @param {import("./row.js").Row|null} row */
  show(row) {
    this.row = row;
    this.#painted = { at: 0, version: -1, frame: null, state: "", places: "" };
    byId("detail").hidden = !row;
    if (!row) return;
    byId("detail-topic").textContent = row.topic;
    this.#loading ??= this.#load();
  }

  /** @param {number} now @param {boolean} current @param {string|null} chosen */
  paint(now, current, chosen) {
    const { row } = this;
    const painted = this.#painted;
    if (!row?.frame || now - painted.at < CHART_MS) return;
    painted.at = now;
    byId("detail").dataset.confidence = current ? "current" : "old";
    byId("detail-value").textContent = row.valueText;
    byId("detail-change").textContent = row.isNumeric ? `${row.changeText} (${row.percentText})` : "";
    byId("detail-change").dataset.trend = row.percent > 0 ? "up" : row.percent < 0 ? "down" : "even";
    const since = age(now - row.at);
    const state = current ? `Updated: ${since}` : `Not current. Age of this value: ${since}`;
    if (state !== painted.state) byId("detail-state").textContent = painted.state = state;
    if (row.frame !== painted.frame) this.#paintFrame(row, chosen);
    if (this.#plot && row.history.version !== painted.version) {
      painted.version = row.history.version;
      this.#plot.setData(row.history.columns());
    }
  }

  #paintFrame(row, chosen) {
    const { frame } = row;
    this.#painted.frame = frame;
    byId("detail-time").textContent = `${new Date(frame.ts).toISOString().slice(11, 23)} UTC`;
    byId("detail-offset").textContent = String(frame.offset);
    byId("detail-count").textContent = String(row.count);
    const payload = frame.data ?? frame.data_base64;
    const text = typeof payload === "string" ? payload : JSON.stringify(payload, null, 2);
    const cut = text.length > PAYLOAD_CHARS_MAX ? "…" : "";
    byId("detail-payload").textContent = text.slice(0, PAYLOAD_CHARS_MAX) + cut;
    this.#offerPlaces(places(frame.data), row.place, chosen);
  }

  #offerPlaces(found, place, chosen) {
    const key = [chosen, place, ...found].join();
    if (key === this.#painted.places) return;
    this.#painted.places = key;
    const automatic = place !== null && chosen === null ? `Automatic: ${placeName(place)}` : "Automatic";
    const select = byId("place");
    select.replaceChildren(new Option(automatic, ""), ...found.map((each) => new Option(placeName(each), each)));
    select.value = found.includes(chosen) ? chosen : "";
  }

  #size() {
    const { clientWidth: width, clientHeight: height } = byId("chart");
    return { width, height };
  }

  async #load() {
    const { default: UPlot } = await import("./vendor/uplot/uPlot.esm.js");
    const colour = (name) => () => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const options = {
      ...this.#size(),
      legend: { show: false },
      cursor: { drag: { x: false, y: false } },
      scales: { x: { time: true } },
      axes: [
        { ...axis, size: 30, space: 80, values: (_, ticks) => ticks.map(clockText) },
        { ...axis, size: axisWidth, values: (_, ticks, __, ___, step) => ticks.map((tick) => axisText(tick, step)) },
      ],
      series: [{}, { stroke: colour("--accent"), width: 1.5, fill: colour("--accent-wash"), points: { show: false } }],
    };
    this.#plot = new UPlot(options, [[], []], byId("chart"));
    this.#painted.version = -1;
  }
}

const clockText = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hourCycle: "h23" });

function axisText(tick, step) {
  const decimals = Math.min(Math.max(-Math.floor(Math.log10(step) + 1e-9), 0), 10);
  return tick.toFixed(decimals);
}

/** As wide as the longest label, so that none is cut; never narrower than before, so that the chart does not jump. */
function axisWidth(plot, labels) {
  const chars = Math.max(0, ...(labels ?? []).map((label) => label.length));
  plot.axisWidth = Math.max(plot.axisWidth ?? 40, chars * 7 + 16);
  return plot.axisWidth;
}
