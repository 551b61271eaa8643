/**
 * The page: one client, its topics, and the views of them.
 *
 * Messages change rows at once; the screen follows once per animation frame. What is not known to be current is never
 * shown as if it were: that is asked anew of the client whenever a row is painted.
 *
 * @module app
 */

import { connect } from "../fanline.js";
import { byId, setText } from "./dom.js";
import { Filter } from "./filter.js";
import { HealthView } from "./health/health_view.js";
import { listen } from "./keyboard.js";
import { Meters } from "./meters.js";
import { format, parse, sorted } from "./route.js";
import { Status } from "./status.js";
import { TokenEntry } from "./token.js";
import { TopicView } from "./topic/topic_view.js";
import { arrange } from "./topics/order.js";
import { commonName } from "./topics/payload.js";
import { Table } from "./topics/table.js";
import { Topics } from "./topics/topics.js";
import { UseView } from "./use/use_view.js";

const TICK_MS = 250;
const TICKS_PER_METER = 4;
const TICKS_PER_ORDER = 8;
/** Close code of a token that was refused, by whatever transport. */
const UNAUTHENTICATED = 4401;
/** Arranging very many rows takes time, which messages need too: at most a tenth of it. */
const ARRANGE_SHARE = 10;

const query = new URLSearchParams(location.search);
// Relative to the page, which a proxy may show below a path of its own.
const socket = new URL(query.get("server") || "v1/ws", document.baseURI);
const token = new TokenEntry(socket.host, () => location.reload());
const client = connect(socket, token.kept ? { token: token.kept } : {});

let route = parse(location.hash);
let orderIsOld = true;
let arrangeAfter = 0;
let frameIsAsked = false;
let ticks = 0;
let tickAt = client.now();
let scrollBefore = 0; // of the table, while another view is open
const closed = new Set(); // groups
let refusal = { topic: "", message: "" }; // why the server sends nothing of the topic whose view is open

const status = new Status(client);
const meters = new Meters(client);
const topics = new Topics(client, {
  onFrame: (row, frame, live) => {
    if (live) meters.take(frame);
    table.touch(row);
    askFrame();
  },
  onChange: () => {
    orderIsOld = true;
    askFrame();
  },
});
const table = new Table(byId("rows"), {
  isCurrent: (topic) => client.isCurrent(topic),
  delayOf: (topic) => client.delayOf(topic),
  hrefOf: (topic) => format({ ...route, view: "topic", topic, as: "" }),
  onPin: pin,
  onGroup: (group) => {
    if (!closed.delete(group)) closed.add(group);
    orderIsOld = true;
    askFrame();
  },
  onMove: askFrame,
});
const topicView = new TopicView(client, {
  onKind: (as) => change({ as }),
  onPlace: (place) => change({ place }),
});
const healthView = new HealthView();
const useView = new UseView({ onLanguage: (language) => change({ language }) });
const filter = new Filter(topics.seen, (patterns) => change({ patterns }));

// -- messages

for (const name of ["state", "stale", "live", "late", "view"]) client.on(name, refresh);
client.on("state", ({ state }) => state === "waiting" && leaveOperatorAlone());
client.on("error", ({ code }) => code === "unauthenticated" && token.ask());
client.closed.then(({ code }) => code === UNAUTHENTICATED && token.ask());
for (const name of ["refused", "stale"]) {
  client.on(name, ({ topic, topics: [first] = [topic], message }) => {
    if (first === route.topic) refusal = { topic: first, message };
  });
}

// -- painting

function refresh() {
  table.touchAll();
  askFrame();
}

function askFrame() {
  if (frameIsAsked) return;
  frameIsAsked = true;
  requestAnimationFrame(paint);
}

function paint() {
  frameIsAsked = false;
  const now = client.now();
  if (orderIsOld && now >= arrangeAfter) arrangeRows(now);
  table.paint(now);
  if (route.view === "topic") paintTopic(now);
  meters.painted();
}

function paintTopic(now) {
  const { topic } = route;
  const row = topics.rows.get(topic) ?? null;
  topicView.show(topic, row, route.as, route.place);
  if (row) topicView.paint(now, client.isCurrent(topic), client.delayOf(topic));
  else setText(byId("topic-empty-text"), refusal.topic === topic ? sentence(refusal.message) : "No message of this topic so far.");
}

/** The server's words begin in lower case and have no full stop. */
const sentence = (message) => `${message[0].toUpperCase()}${message.slice(1)}.`;

function arrangeRows(now) {
  orderIsOld = false;
  const items = arrange(topics.rows.values(), route, closed);
  table.show(items);
  arrangeAfter = now + ARRANGE_SHARE * (client.now() - now);
  byId("empty").hidden = topics.rows.size > 0;
  if (!topics.rows.size) {
    const all = route.patterns.join() === ">";
    setText(byId("empty-text"), all ? "Waiting for the first value." : `No value of ${route.patterns.join(", ")} so far.`);
    filter.suggest();
  }
}

setInterval(() => {
  const now = client.now();
  ticks += 1;
  if (ticks % TICKS_PER_METER === 0) {
    for (const row of topics.rows.values()) row.measureRate(Math.max(now - tickAt, 1));
    tickAt = now;
    meters.show(topics.rows.size);
    setText(byId("value-name"), commonName([...topics.rows.values()].map((row) => row.place)));
  }
  if (ticks % TICKS_PER_ORDER === 0 && route.sort !== "topic" && !table.inUse) orderIsOld = true;
  status.tick();
  topicView.relate(topics.rows.keys(), (topic) => format({ ...route, topic, as: "" }));
  refresh();
}, TICK_MS);

// -- the address, and what it shows

/** What a person chooses is in the address. @param {Partial<import("./route.js").Route>} changes */
function change(changes) {
  const next = { ...route, ...changes };
  const isView = next.view !== route.view || next.topic !== route.topic;
  history[isView ? "pushState" : "replaceState"](null, "", format(next));
  show(next);
}

/** The operator's address has no values, however often one asks: there the page is about health. */
async function leaveOperatorAlone() {
  if (client.messages || query.has("server")) return;
  const answer = await fetch("v1/topics?topics=none").catch(() => null);
  if (answer?.status !== 404) return;
  status.explain("This is the operator's address. Values are at the address for clients.");
  client.close();
  if (route.view !== "health") change({ view: "health", topic: "" });
}

/** @param {import("./route.js").Route} next */
function show(next) {
  const before = route;
  route = next;
  showView(before);
  const wrong = filter.show(route.patterns);
  if (!wrong) topics.want([...route.patterns, ...route.pins, ...(route.topic ? [route.topic] : [])]);
  topics.choose(route.place);
  table.select(route.topic || null);
  byId("sort").value = route.sort;
  byId("group").value = String(route.group);
  for (const head of document.querySelectorAll("[data-sort]")) {
    const direction = route.descending ? "descending" : "ascending";
    head.closest("[role=columnheader]").ariaSort = head.dataset.sort === route.sort ? direction : null;
  }
  for (const link of document.querySelectorAll("[data-view-link]")) {
    const view = link.dataset.viewLink;
    link.href = format({ ...route, view, topic: "" });
    link.ariaCurrent = view === (route.view === "topic" ? "topics" : route.view) ? "page" : null;
  }
  byId("topic-use").href = format({ ...route, view: "use", topic: "", patterns: [route.topic], pins: [] });
  byId("topic-pin").setAttribute("aria-pressed", String(route.pins.includes(route.topic)));
  if (route.view === "use") showUse();
  table.refer();
  orderIsOld = true;
  refresh();
}

function showView(before) {
  const isOther = route.view !== before.view || document.body.dataset.view === undefined;
  if (before.view === "topics" && isOther) scrollBefore = scrollY;
  document.body.dataset.view = route.view;
  const titles = { topics: "Topics", topic: route.topic, health: "Health", use: "Use it" };
  document.title = `${titles[route.view]} · fanline`;
  if (route.view !== "topic") topicView.close();
  if (route.view === "health") healthView.open();
  else healthView.close();
  if (!isOther) return;
  if (route.view === "topics") scrollTo(0, scrollBefore);
  else if (!byId("topics-view").checkVisibility()) scrollTo(0, 0);
  const focused = document.activeElement;
  if (focused !== document.body && !focused.checkVisibility()) byId(`${route.view}-heading`).focus({ preventScroll: true });
}

function showUse() {
  const page = new URL(".", document.baseURI);
  useView.show({ page, socket: client.url, patterns: route.patterns, needsToken: Boolean(token.kept) }, route.language);
}

function pin(topic) {
  if (!topic) return;
  const pins = route.pins.includes(topic) ? route.pins.filter((each) => each !== topic) : [...route.pins, topic];
  change({ pins });
}

function sortBy(sort) {
  change(sort === route.sort ? { descending: !route.descending } : sorted(sort));
}

byId("sort").addEventListener("change", (event) => change(sorted(event.target.value)));
byId("group").addEventListener("change", (event) => change({ group: Number(event.target.value) }));
for (const head of document.querySelectorAll("[data-sort]")) head.addEventListener("click", () => sortBy(head.dataset.sort));
byId("topic-pin").addEventListener("click", () => pin(route.topic));
byId("help-open").addEventListener("click", () => byId("help").showModal());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  table.readColours();
  refresh();
});
addEventListener("hashchange", () => show(parse(location.hash)));

const go = (view) => () => change({ view, topic: "" });
listen(
  {
    "/": () => {
      if (route.view !== "topics") go("topics")();
      filter.focus();
    },
    "?": () => byId("help").showModal(),
    j: () => table.step(1),
    k: () => table.step(-1),
    p: () => pin(route.view === "topic" ? route.topic : table.active),
    t: go("topics"),
    h: go("health"),
    u: go("use"),
  },
  {
    ArrowDown: () => table.step(1),
    ArrowUp: () => table.step(-1),
    Escape: go("topics"),
  },
);

const { host } = client.url;
setText(byId("server"), host);
byId("foreign").hidden = host === location.host;
setText(byId("foreign-server"), host);
// An address of before, or one written by hand.
const asked = (query.get("topics") ?? "").split(/[\s,]+/).filter(Boolean);
if (asked.length && !location.hash) route.patterns = asked;
show(route);
