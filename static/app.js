/**
 * The page: one client, its rows, and what a person sees of them.
 *
 * Messages change rows at once; the screen follows once per animation frame. What is not known to be current is never
 * shown as if it were: that is asked anew of the client whenever a row is painted.
 *
 * @module app
 */

import { checkPattern, connect, matches } from "./fanline.js";
import { commonName } from "./payload.js";
import { Detail } from "./detail.js";
import { Quantiles, Rate } from "./meter.js";
import { Row } from "./row.js";
import { Status } from "./status.js";
import { find, suggest } from "./suggest.js";
import { Table } from "./table.js";

const TICK_MS = 250;
const TICKS_PER_METER = 4;
const TICKS_PER_ORDER = 8;
/** A window that is covered gets no animation frames; its messages must not pile up. */
const UNPAINTED_MAX = 10_000;
/** Typing pauses; a subscription per key stroke would be noise to the server. */
const TYPING_MS = 350;

const byId = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
// Relative to the page, which a proxy may show below a path of its own.
const client = connect(query.get("server") || new URL("v1/ws", document.baseURI));
const rows = new Map();
const topicsSeen = new Set();
const latencies = new Quantiles();
const messageRate = new Rate();
const byteRate = new Rate();
const painted = new MessageChannel();

let chosen = null; // place that the person wants to see instead of the automatic one
let order = "topic";
let orderIsOld = false;
let frameAsked = false;
let wasSelected = false; // from then on the person decides what the detail shows
let ticks = 0;
let tickAt = client.now();
let subscription = null;
let unpainted = []; // live frames since the last painting
let justPainted = [];

const status = new Status(client);
const table = new Table(byId("rows"), {
  isCurrent: (topic) => client.isCurrent(topic),
  now: () => client.now(),
  onSelect: select,
});
const detail = new Detail({ onChoose: choose, onClose: () => select(null) });

// -- messages

function onFrame(frame, live) {
  let row = rows.get(frame.topic);
  if (row?.frame === frame) return; // known already: a new subscription repeats what the module holds
  if (!row) {
    row = new Row(frame.topic);
    rows.set(frame.topic, row);
    topicsSeen.add(frame.topic);
    orderIsOld = true;
  }
  row.take(frame, frame.ts + client.clockOffset, chosen);
  if (live && !document.hidden && unpainted.length < UNPAINTED_MAX) unpainted.push(frame);
  table.touch(row);
  askFrame();
}

client.on("state", ({ state }) => {
  if (state === "waiting") breakLines([">"]);
  refresh();
});
client.on("stale", ({ topics, reason }) => {
  breakLines(topics);
  for (const row of concerned(topics)) row.unconfirmed = reason === "upstream_down";
  refresh();
});
client.on("live", refresh);
client.on("late", refresh);
client.on("skipped", () => breakLines([">"]));

function concerned(patterns) {
  return [...rows.values()].filter((row) => patterns.some((pattern) => matches(pattern, row.topic)));
}

/** A line drawn across a time of which nothing is known would be a lie. */
function breakLines(patterns) {
  for (const row of concerned(patterns)) row.history.gap(client.now());
}

// -- painting

function refresh() {
  table.touchAll();
  askFrame();
}

function askFrame() {
  if (frameAsked) return;
  frameAsked = true;
  requestAnimationFrame(paint);
}

function paint() {
  frameAsked = false;
  const now = client.now();
  if (orderIsOld) arrange(now);
  table.paint(now);
  if (detail.row) detail.paint(now, client.isCurrent(detail.row.topic), chosen);
  // A message posted in an animation frame arrives after that frame was painted: only then has a person seen it.
  if (unpainted.length) {
    [justPainted, unpainted] = [unpainted, []];
    painted.port2.postMessage(null);
  }
}

painted.port1.onmessage = () => {
  for (const frame of justPainted) latencies.add(performance.now(), Math.max(client.latency(frame), 0));
  justPainted = [];
};

function arrange(now) {
  orderIsOld = false;
  const shown = table.arrange(rows.values(), order, now);
  if (!wasSelected && matchMedia("(min-width: 64rem)").matches) select(table.first);
  byId("empty").hidden = shown > 0;
  byId("note").hidden = rows.size <= shown;
  byId("note").textContent = `Showing ${shown} of ${rows.size} topics; narrow the subscription to see the others.`;
}

setInterval(() => {
  const now = client.now();
  ticks += 1;
  if (ticks % TICKS_PER_METER === 0) {
    for (const row of rows.values()) row.measureRate(Math.max(now - tickAt, 1));
    tickAt = now;
    showMeters();
  }
  if (ticks % TICKS_PER_ORDER === 0 && order !== "topic" && !table.inUse) orderIsOld = true;
  status.tick();
  refresh();
}, TICK_MS);

function showMeters() {
  const now = performance.now();
  const set = (id, text) => (byId(id).textContent = text);
  const messages = messageRate.mark(now, client.messages);
  const kilobytes = byteRate.mark(now, client.bytes) / 1000;
  const quantiles = client.state === "open" ? latencies.read(now, [0.5, 0.99]) : null;
  set("meter-topics", rows.size);
  set("value-name", commonName([...rows.values()].map((row) => row.place)));
  set("meter-messages", messages < 10 ? messages.toFixed(1) : Math.round(messages));
  set("meter-bytes", kilobytes < 10 ? kilobytes.toFixed(1) : Math.round(kilobytes));
  set("meter-median", quantiles ? Math.round(quantiles[0]) : "–");
  set("meter-p99", quantiles ? Math.round(quantiles[1]) : "–");
}

// -- what the person does

function select(topic) {
  wasSelected ||= topic !== null;
  table.select(topic);
  detail.show(rows.get(topic) ?? null);
  refresh();
}

function choose(place) {
  chosen = place;
  for (const row of rows.values()) row.choose(chosen);
  refresh();
}

function sortBy(name) {
  order = name;
  orderIsOld = true;
  byId("sort").value = name;
  for (const button of document.querySelectorAll("[data-sort]")) {
    const direction = name === "topic" ? "ascending" : "descending";
    button.parentElement.ariaSort = button.dataset.sort === name ? direction : null;
  }
  refresh();
}

function patternsOf(text) {
  return [...new Set(text.split(/[\s,]+/).filter(Boolean))];
}

/** Says what is wrong with the text in the box, or subscribes to it. Nothing in it is everything; a part of a name is a search. */
function applyFilter() {
  const input = byId("filter");
  const words = patternsOf(input.value);
  const wrong = words.map(checkPattern).find(Boolean);
  const patterns = words.length && !wrong ? find(words, topicsSeen) : [">"];
  const isSearch = words.length > 0 && patterns.join() !== words.join();
  input.ariaInvalid = wrong ? "true" : "false";
  byId("filter-hint").dataset.wrong = wrong ? "yes" : "no";
  if (wrong) byId("filter-hint").textContent = `Not a pattern: ${wrong}.`;
  else if (isSearch) byId("filter-hint").textContent = `Topics that contain ${words.join(", ")}: ${patterns.join(", ")}`;
  else byId("filter-hint").replaceChildren(...HINT.cloneNode(true).childNodes);
  if (wrong || patterns.join() === subscription?.patterns.join()) return;
  subscribe(patterns);
  const address = new URL(location.href);
  if (patterns.join() === ">") address.searchParams.delete("topics");
  else address.searchParams.set("topics", patterns.join());
  history.replaceState(null, "", address);
}

function subscribe(patterns) {
  for (const topic of rows.keys()) if (!patterns.some((pattern) => matches(pattern, topic))) rows.delete(topic);
  const before = subscription;
  subscription = client.subscribe(patterns, onFrame);
  before?.unsubscribe();
  if (detail.row && !rows.has(detail.row.topic)) select(null);
  byId("empty-text").textContent =
    patterns.join() === ">" ? "Waiting for the first value." : `No value of ${patterns.join(", ")} so far.`;
  const buttons = suggest(patterns, topicsSeen).map((pattern) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = pattern;
    button.addEventListener("click", () => setFilter(pattern));
    return button;
  });
  byId("suggestions").replaceChildren(...(buttons.length ? ["Try ", ...buttons] : []));
  orderIsOld = true;
  refresh();
}

function setFilter(text) {
  byId("filter").value = text;
  applyFilter();
}

const HINT = byId("filter-hint").cloneNode(true);
let typing;
byId("filter").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(applyFilter, TYPING_MS);
});
byId("tools").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  applyFilter();
});
byId("sort").addEventListener("change", (event) => sortBy(event.target.value));
for (const button of document.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => sortBy(button.dataset.sort));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  table.readColours();
  refresh();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && detail.row) select(null);
});
const { host } = new URL(client.url);
byId("server").textContent = host;
byId("foreign").hidden = host === location.host;
byId("foreign-server").textContent = host;
sortBy("topic");
setFilter(patternsOf(query.get("topics") ?? ">").join(", ") || ">");
