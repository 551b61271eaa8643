/**
 * How the server is doing, from two readings of its metrics: rates, latencies, and what needs attention. No DOM, no clock.
 *
 * @module vitals
 */

/** 10 min at one reading in 2 s. */
const READINGS_MAX = 300;
/** A restarted server counts from zero; its first reading has no rate. */
const COUNTERS = {
  messages: "fanline_upstream_messages_total",
  frames: "fanline_frames_total",
  deliveries: "fanline_deliveries_total",
  sent_bytes: "fanline_sent_bytes_total",
  received_bytes: "fanline_upstream_received_bytes_total",
  cpu: "process_cpu_seconds_total",
};
const LATENCY = "fanline_publish_to_write_seconds";
/** A part that gives no sign of life for longer is dead, says the server's own /healthz. */
const LIVENESS_S_MAX = 5;
const BUSY_MAX = 0.9;
const CERTIFICATE_DAYS_MIN = 14;

/** @typedef {{at: number, exposition: import("./exposition.js").Exposition}} Reading */
/** @typedef {{severity: "bad"|"warn", text: string}} Finding */

export class Vitals {
  /** Rates per second, by name of COUNTERS; NaN before the second reading. */
  rates = Object.fromEntries(Object.keys(COUNTERS).map((name) => [name, NaN]));
  /** Upper bounds of the latency in s that half, and 99 of 100, of the last interval's deliveries stayed below. */
  latency = { p50: NaN, p99: NaN };
  /** Deliveries of the last interval by latency. @type {{bound: number, count: number}[]} */
  buckets = [];
  /** @type {Reading|null} */
  last = null;
  #points = []; // [seconds, messages/s, deliveries/s, p99 in ms]

  /** @param {Reading} reading */
  take(reading) {
    const before = this.last;
    this.last = reading;
    if (!before || reading.at <= before.at) return;
    const seconds = (reading.at - before.at) / 1000;
    for (const [name, metric] of Object.entries(COUNTERS)) {
      const growth = reading.exposition.sum(metric) - before.exposition.sum(metric);
      this.rates[name] = growth < 0 ? NaN : growth / seconds;
    }
    const earlier = new Map(before.exposition.histogram(LATENCY).map(({ bound, count }) => [bound, count]));
    const now = reading.exposition.histogram(LATENCY);
    const buckets = now.map(({ bound, count }) => ({ bound, count: count - (earlier.get(bound) ?? 0) }));
    this.buckets = buckets.some(({ count }) => count < 0) ? now : buckets;
    this.latency = { p50: quantile(this.buckets, 0.5), p99: quantile(this.buckets, 0.99) };
    const p99_ms = this.latency.p99 * 1000;
    this.#points.push([reading.at / 1000, this.rates.messages, this.rates.deliveries, p99_ms]);
    if (this.#points.length > READINGS_MAX) this.#points.shift();
  }

  /** Columns for a chart: seconds, messages/s, deliveries/s, p99 in ms; null where nothing is known. */
  columns() {
    const known = (value) => (Number.isFinite(value) ? value : null);
    return [0, 1, 2, 3].map((column) => this.#points.map((point) => known(point[column])));
  }

  /** The server's shards. @returns {{shard: string, sessions: number, behind: number, busy: number, lanes: number, windows: number, unsent: number, deliveries: number}[]} */
  shards() {
    const { exposition } = this.last;
    const read = (name) => exposition.by(name, "shard");
    const [sessions, behind, busy] = ["fanline_sessions", "fanline_sessions_behind", "fanline_shard_busy_ratio"].map(read);
    const [lanes, windows, unsent] = ["fanline_lanes", "fanline_windows", "fanline_unsent_bytes"].map(read);
    return [...sessions.keys()].sort((a, b) => a - b).map((shard) => ({
      shard,
      sessions: sessions.get(shard),
      behind: behind.get(shard) ?? 0,
      busy: busy.get(shard) ?? NaN,
      lanes: lanes.get(shard) ?? 0,
      windows: windows.get(shard) ?? 0,
      unsent: unsent.get(shard) ?? 0,
    }));
  }

  /** What a person on call should look at, the worst first. @param {number} now in ms @returns {Finding[]} */
  findings(now) {
    const { exposition } = this.last;
    const found = [];
    const say = (severity, condition, text) => condition && found.push({ severity, text });
    const state = exposition.leading("fanline_upstream_state", "state");
    say("bad", state === "down", "The feed is down: there is no connection to it.");
    say("bad", state === "silent", "The feed is silent: the connection stands but brings nothing.");
    say("bad", state === "cut_off", "This server has no connection to the log that it shares with others.");
    for (const [part, age] of exposition.by("fanline_liveness_age_seconds", "part")) {
      say("bad", age > LIVENESS_S_MAX, `The part ${part} has given no sign of life for ${age.toFixed(0)} s.`);
    }
    say("bad", exposition.sum("fanline_audit_failing") > 0, "The audit log cannot be written.");
    for (const [issuer, keys] of exposition.by("fanline_auth_keys", "issuer")) {
      say("bad", keys === 0, `The issuer ${issuer} has no keys: all its tokens are refused.`);
    }
    for (const [name, at] of exposition.by("fanline_tls_certificate_not_after_timestamp_seconds", "name")) {
      const days = (at - now / 1000) / 86_400;
      const when = days < 0 ? "has expired" : `expires in ${days.toFixed(0)} days`;
      say(days < 1 ? "bad" : "warn", days < CERTIFICATE_DAYS_MIN, `The certificate of ${name} ${when}.`);
    }
    for (const { shard, busy, behind, sessions } of this.shards()) {
      say("warn", busy > BUSY_MAX, `Shard ${shard} is busy for ${(busy * 100).toFixed(0)} % of the time.`);
      say("warn", behind > 0 && behind * 20 >= sessions, `On shard ${shard}, ${behind} of ${sessions} clients are behind.`);
    }
    say("warn", exposition.sum("fanline_upstream_items_silent") > 0, `${exposition.sum("fanline_upstream_items_silent")} items were granted by the feed, but have sent nothing.`);
    say("warn", exposition.sum("fanline_log_lines_dropped_total") > 0, `${exposition.sum("fanline_log_lines_dropped_total")} log lines were dropped.`);
    return found.sort((a, b) => (a.severity === b.severity ? 0 : a.severity === "bad" ? -1 : 1));
  }
}

/** The upper bound of the bucket in which the quantile lies; NaN if nothing was counted. */
function quantile(buckets, q) {
  const total = buckets.reduce((sum, { count }) => sum + count, 0);
  let seen = 0;
  for (const { bound, count } of buckets) {
    seen += count;
    if (total && seen >= q * total) return bound;
  }
  return NaN;
}
