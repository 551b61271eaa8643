/**
 * The view of the server's health, from its metrics and its readiness, asked for while the view is open and in sight.
 *
 * @module health_view
 */

import { Chart } from "../chart.js";
import { byId, element, keepCount, setText, short } from "../dom.js";
import { Exposition } from "./exposition.js";
import { SlowClients } from "./slow_clients.js";
import { Vitals } from "./vitals.js";

const READ_MS = 2_000;
const ANSWER_MS_MAX = 5_000;
/** Those of a server that is well; slower ones are shown when there are any. */
const BUCKETS_MIN = 9;

/** Counters by reason that are worth a look when they are not zero: metric, label, what it counts. */
const COUNTS = [
  ["fanline_upstream_reconnects_total", "reason", "Reconnects to the feed"],
  ["fanline_upstream_gaps_total", "scope", "Gaps in the feed"],
  ["fanline_topic_status_total", "kind", "Topic statuses"],
  ["fanline_skips_total", "reason", "Clients that skipped"],
  ["fanline_goodbyes_total", "reason", "Sessions that ended"],
  ["fanline_commands_refused_total", "code", "Commands refused"],
  ["fanline_refusals_total", "reason", "Requests refused"],
  ["fanline_frames_refused_total", "reason", "Frames not published"],
  ["fanline_http_dropped_total", "reason", "HTTP connections closed early"],
];

const milliseconds = (seconds) => {
  if (!Number.isFinite(seconds)) return "–";
  return seconds < 0.001 ? `${Math.round(seconds * 1e6)} µs` : `${Number((seconds * 1000).toPrecision(3))} ms`;
};
const size = (bytes) => (Number.isFinite(bytes) ? `${short(bytes)}B`.replace(/(\d)B/, "$1 B") : "–");

export class HealthView {
  #timer = null;
  #vitals = new Vitals();
  #version = 0;
  /** The server has no metrics for this page: asking again and again would not change that. */
  #isHidden = false;
  #rates = new Chart(byId("rate-chart"), [{ label: "messages/s", colour: "--accent" }]);
  #latencies = new Chart(byId("latency-chart"), [{ label: "p99 in ms", colour: "--accent" }]);
  #slow = new SlowClients();

  open() {
    if (this.#timer) return;
    this.#isHidden = false;
    this.#timer = setInterval(() => this.#read(), READ_MS);
    this.#read();
    this.#slow.open();
  }

  close() {
    clearInterval(this.#timer);
    this.#timer = null;
  }

  async #read() {
    if (document.hidden) return;
    const hidden = { status: 404, text: "" };
    const [metrics, ready] = await Promise.all([this.#isHidden ? hidden : ask("metrics"), ask("readyz")]);
    this.#isHidden = metrics.status === 404;
    setText(byId("health-state"), this.#state(metrics, ready));
    this.#paintReadiness(ready);
    const isThere = metrics.status === 200;
    byId("health-body").hidden = !isThere;
    if (!isThere) return;
    this.#vitals.take({ at: Date.now(), exposition: new Exposition(metrics.text) });
    this.#version += 1;
    this.#paint();
  }

  #state(metrics, ready) {
    if (!metrics.status && !ready.status) return "The server does not answer. What is shown below is not current.";
    if (metrics.status === 404) return "This server shows its metrics only to its operator: open this page at admin.listen.";
    if (metrics.status !== 200) return `The server answers ${metrics.status} for its metrics. What is shown below is not current.`;
    return "";
  }

  #paintReadiness({ status, text }) {
    const { message = "–", state = "–", since_ms } = parsed(text);
    setText(byId("ready"), status === 200 ? "ready" : status ? "not ready" : "unknown");
    byId("ready").dataset.state = status === 200 ? "good" : "bad";
    const since = since_ms ? ` since ${new Date(since_ms).toLocaleTimeString()}` : "";
    setText(byId("ready-message"), `${message}${since}`);
    setText(byId("feed-state"), state);
  }

  #paint() {
    const { exposition } = this.#vitals.last;
    const { rates, latency } = this.#vitals;
    const sum = (name, labels) => exposition.sum(name, labels);
    const facts = {
      "feed-connections": short(sum("fanline_upstream_connections")),
      "feed-messages": short(rates.messages),
      "feed-bytes": size(rates.received_bytes),
      "feed-reconnects": short(sum("fanline_upstream_reconnects_total")),
      "feed-gaps": short(sum("fanline_upstream_gaps_total")),
      "feed-stale": short(sum("fanline_upstream_topics_stale_total")),
      "feed-refused": short(sum("fanline_upstream_refused_total")),
      "topics-known": short(sum("fanline_topics")),
      sessions: short(sum("fanline_sessions")),
      behind: short(sum("fanline_sessions_behind")),
      deliveries: short(rates.deliveries),
      "sent-bytes": size(rates.sent_bytes),
      "latency-median": milliseconds(latency.p50),
      "latency-p99": milliseconds(latency.p99),
      lanes: short(sum("fanline_lanes")),
      windows: short(sum("fanline_windows")),
      cpu: Number.isFinite(rates.cpu) ? `${(rates.cpu * 100).toFixed(0)} %` : "–",
      memory: size(sum("process_resident_memory_bytes")),
      files: `${short(sum("process_open_fds"))} of ${short(sum("process_max_fds"))}`,
      version: exposition.leading("fanline_build_info", "version"),
    };
    for (const [name, text] of Object.entries(facts)) setText(byId(`health-${name}`), text);
    this.#paintFindings();
    this.#paintBuckets();
    this.#paintShards();
    this.#paintCounts(exposition);
    const columns = this.#vitals.columns();
    const now = performance.now();
    this.#rates.paint(now, this.#version, () => [columns[0], columns[1]]);
    this.#latencies.paint(now, this.#version, () => [columns[0], columns[3]]);
  }

  #paintFindings() {
    const findings = this.#vitals.findings(Date.now());
    byId("findings-none").hidden = findings.length > 0;
    const lines = keepCount(byId("findings"), findings.length, () => element("li"));
    findings.forEach(({ severity, text }, i) => {
      lines[i].dataset.severity = severity;
      setText(lines[i], text);
    });
  }

  #paintBuckets() {
    const all = this.#vitals.buckets;
    const buckets = all.slice(0, Math.max(BUCKETS_MIN, all.findLastIndex(({ count }) => count > 0) + 1));
    const most = Math.max(1, ...buckets.map(({ count }) => count));
    const cell = () => element("td", { class: "num" });
    const rows = keepCount(byId("buckets"), buckets.length, () => element("tr", {}, element("th", { scope: "row", class: "num" }), cell()));
    buckets.forEach(({ bound, count }, i) => {
      const [label, figure] = rows[i].cells;
      setText(label, Number.isFinite(bound) ? `≤ ${milliseconds(bound)}` : "more");
      setText(figure, String(count));
      rows[i].style.setProperty("--depth", `${(count / most) * 100}%`);
    });
  }

  #paintShards() {
    const shards = this.#vitals.shards();
    const cell = () => element("td", { class: "num" });
    const make = () => element("tr", {}, element("th", { scope: "row" }), ...Array.from({ length: 6 }, cell));
    const rows = keepCount(byId("shards"), shards.length, make);
    shards.forEach(({ shard, sessions, behind, busy, lanes, windows, unsent }, i) => {
      const texts = [shard, short(sessions), short(behind), `${(busy * 100).toFixed(0)} %`, short(lanes), short(windows), size(unsent)];
      texts.forEach((text, column) => setText(rows[i].cells[column], text));
    });
  }

  #paintCounts(exposition) {
    const found = COUNTS.flatMap(([metric, label, what]) => {
      const values = [...exposition.by(metric, label)].filter(([, count]) => count > 0);
      return values.map(([value, count]) => [what, value, count]);
    });
    const make = () => element("tr", {}, element("td"), element("td"), element("td", { class: "num" }));
    const rows = keepCount(byId("counts"), found.length, make);
    found.forEach((texts, i) => texts.forEach((text, column) => setText(rows[i].cells[column], String(text))));
  }
}

/** @returns {Promise<{status: number, text: string}>} status 0 if there is no answer */
async function ask(path) {
  try {
    const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS_MAX) });
    return { status: answer.status, text: await answer.text() };
  } catch {
    return { status: 0, text: "" };
  }
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}
