/**
 * Paints rows into the table: at most once per animation frame, only cells that changed, only rows on the screen.
 *
 * Rows beyond ROWS_MAX are kept up to date but not shown; the caller says so.
 *
 * @module table
 */

import { placeName } from "./payload.js";
import { age } from "./row.js";
import { drawSparkline } from "./sparkline.js";

/** 500 rows are more than a person reads; layout of more costs phones their frame rate. */
export const ROWS_MAX = 500;
const FLASH_MS = 300;
/** Lines are looked at, not read: five a second are enough, and drawing them is most of the work. */
const LINE_MS = 200;

const ORDERS = {
  topic: (a, b) => (a.topic < b.topic ? -1 : 1),
  rate: (a, b) => b.rate - a.rate || ORDERS.topic(a, b),
  change: (a, b) => Math.abs(b.percent || 0) - Math.abs(a.percent || 0) || ORDERS.topic(a, b),
  age: (a, b) => b.at - a.at || ORDERS.topic(a, b),
};

/** One row's cells, and what stands in them. */
class View {
  visible = false;
  /** Of the canvas; its observer keeps it. */
  size = { width: 0, height: 0 };
  #shown = new Map();
  #flashUntil = 0;
  #lastValue = NaN;
  #drawn = "";
  #drawnAt = 0;

  constructor(row) {
    this.row = row;
    const tr = document.createElement("tr");
    tr.dataset.topic = row.topic;
    const cell = (name, child) => {
      const td = document.createElement("td");
      td.className = name;
      td.append(child);
      tr.append(td);
      return child;
    };
    const name = document.createElement("button");
    name.type = "button";
    name.title = row.topic;
    // Where there is little room a name breaks between its tokens.
    name.append(...row.topic.split(/(?<=\.)/).flatMap((token) => [token, document.createElement("wbr")]));
    cell("c-topic", name);
    this.value = cell("c-value num", document.createElement("span"));
    this.change = cell("c-change num", document.createTextNode(""));
    this.percent = cell("c-percent num", document.createTextNode(""));
    this.canvas = cell("c-trend", document.createElement("canvas"));
    this.canvas.setAttribute("aria-hidden", "true");
    this.rate = cell("c-rate num", document.createTextNode(""));
    this.age = cell("c-age num", document.createTextNode(""));
    this.tr = tr;
  }

  /** @param {number} now @param {boolean} current @param {Record<string, string>} colours */
  paint(now, current, colours) {
    const { row } = this;
    const quiet = current && row.isQuiet(now);
    this.#flash(now, current);
    this.#set(this.value, row.valueText);
    this.#name(row.place);
    this.#set(this.change, row.changeText);
    this.#set(this.percent, row.percentText);
    this.#set(this.rate, row.rate >= 0.05 ? row.rate.toFixed(1) : "–");
    this.#set(this.age, age(now - row.at));
    const trend = row.percent > 0 ? "up" : row.percent < 0 ? "down" : "even";
    const confidence = !current ? "old" : row.unconfirmed ? "unconfirmed" : quiet ? "quiet" : "current";
    this.#mark("trend", trend);
    this.#mark("confidence", confidence);
    this.#mark("kind", row.isNumeric ? "number" : "text");
    const drawing = `${row.history.version} ${trend} ${current} ${colours.id}`;
    if (drawing === this.#drawn || now - this.#drawnAt < LINE_MS) return;
    [this.#drawn, this.#drawnAt] = [drawing, now];
    drawSparkline(this.canvas, row.history, current ? colours[trend] : colours.old, this.size);
  }

  /** @param {{width: number, height: number}} size */
  resize({ width, height }) {
    this.size = { width, height };
    [this.#drawn, this.#drawnAt] = ["", 0];
  }

  /** The row is out of sight and will not be painted: it must not come back looking current. */
  hide() {
    this.visible = false;
    this.#mark("confidence", "unseen");
  }

  #name(place) {
    if (this.#shown.get("place") === place) return;
    this.#shown.set("place", place);
    this.value.title = place === null ? "" : placeName(place);
  }

  #flash(now, current) {
    const { value, direction } = this.row;
    if (value !== this.#lastValue && !Number.isNaN(this.#lastValue) && current) this.#flashUntil = now + FLASH_MS;
    this.#lastValue = value;
    const flashing = now < this.#flashUntil && direction;
    this.#mark("flash", flashing ? (direction > 0 ? "up" : "down") : "no");
  }

  #set(node, text) {
    if (this.#shown.get(node) === text) return;
    this.#shown.set(node, text);
    node.textContent = text;
  }

  #mark(name, value) {
    if (this.#shown.get(name) === value) return;
    this.#shown.set(name, value);
    this.tr.dataset[name] = value;
    if (name === "confidence") this.tr.title = EXPLANATIONS[value];
  }
}

const EXPLANATIONS = {
  current: "",
  old: "Not current: this is the last value received",
  unconfirmed: "Not updated since the feed came back: updates may have been missed while it was down",
  quiet: "Silent for far longer than is usual for this topic",
  unseen: "",
};

export class Table {
  #body;
  #views = new Map();
  #dirty = new Set();
  #selected = null;
  #isCurrent;
  #now;
  #watcher;
  #colours;
  #sizes;

  /**
   * @param {HTMLTableSectionElement} body
   * @param {{isCurrent: (topic: string) => boolean, now: () => number, onSelect: (topic: string) => void}} hooks
   */
  constructor(body, { isCurrent, now, onSelect }) {
    this.#body = body;
    [this.#isCurrent, this.#now] = [isCurrent, now];
    this.#watcher = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const view = this.#views.get(target.dataset.topic);
        if (view?.tr !== target) continue;
        if (isIntersecting) this.#show(view);
        else this.#hide(view);
      }
    }, { rootMargin: "200px" });
    this.#sizes = new ResizeObserver((entries) => {
      for (const { target, contentRect } of entries) {
        const view = this.#views.get(target.closest("tr")?.dataset.topic);
        if (view?.canvas !== target) continue;
        view.resize(contentRect);
        view.paint(this.#now(), this.#isCurrent(view.row.topic), this.#colours);
      }
    });
    body.addEventListener("click", (event) => {
      const tr = event.target.closest("tr");
      if (!tr) return;
      onSelect(tr.dataset.topic);
      if (matchMedia("(max-width: 63.99rem)").matches) tr.scrollIntoView(); // or the sheet may lie over it
    });
    this.readColours();
  }

  /** To be called again when the colour scheme changes. */
  readColours() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    const [up, down, even, old] = ["--up", "--down", "--accent", "--faint"].map(read);
    this.#colours = { up, down, even, old, id: up + down };
  }

  /** Remembers that a row changed. @param {import("./row.js").Row} row */
  touch(row) {
    const view = this.#views.get(row.topic);
    if (view?.visible) this.#dirty.add(view);
  }

  /** Every visible row is to be looked at again: time has passed, or the state has changed. */
  touchAll() {
    for (const view of this.#views.values()) if (view.visible) this.#dirty.add(view);
  }

  /** Paints what changed. @param {number} now */
  paint(now) {
    for (const view of this.#dirty) view.paint(now, this.#isCurrent(view.row.topic), this.#colours);
    this.#dirty.clear();
  }

  /**
   * Shows these rows in this order, and returns how many of them.
   * @param {Iterable<import("./row.js").Row>} rows
   * @param {keyof typeof ORDERS} order
   * @param {number} now
   */
  arrange(rows, order, now) {
    const shown = [...rows].sort(ORDERS[order]).slice(0, ROWS_MAX);
    const kept = new Set(shown);
    for (const view of this.#views.values()) if (!kept.has(view.row)) this.#remove(view);
    let place = this.#body.firstElementChild;
    for (const row of shown) {
      const { tr } = this.#views.get(row.topic) ?? this.#add(row, now);
      if (tr === place) place = place.nextElementSibling;
      else this.#body.insertBefore(tr, place);
    }
    return shown.length;
  }

  /** Whether the pointer or the keyboard is in it, so that rows should stay where they are. */
  get inUse() {
    const pointed = matchMedia("(hover: hover)").matches && this.#body.matches(":hover");
    return pointed || this.#body.querySelector(":focus-visible") !== null;
  }

  /** The topic of the first row that shows a number. */
  get first() {
    const rows = [...this.#body.children].map(({ dataset }) => this.#views.get(dataset.topic).row);
    return rows.find((row) => row.isNumeric)?.topic ?? null;
  }

  /** @param {string|null} topic */
  select(topic) {
    this.#views.get(this.#selected)?.tr.removeAttribute("aria-current");
    this.#selected = topic;
    this.#views.get(topic)?.tr.setAttribute("aria-current", "true");
  }

  /** At once, not with the next painting: it is in sight already. */
  #show(view) {
    view.visible = true;
    this.#sizes.observe(view.canvas);
    view.paint(this.#now(), this.#isCurrent(view.row.topic), this.#colours);
  }

  #hide(view) {
    this.#sizes.unobserve(view.canvas);
    view.hide();
  }

  #remove(view) {
    this.#sizes.unobserve(view.canvas);
    this.#watcher.unobserve(view.tr);
    view.tr.remove();
    this.#views.delete(view.row.topic);
    this.#dirty.delete(view);
  }

  #add(row, now) {
    const view = new View(row);
    this.#views.set(row.topic, view);
    this.#watcher.observe(view.tr);
    view.paint(now, this.#isCurrent(row.topic), this.#colours);
    if (row.topic === this.#selected) view.tr.setAttribute("aria-current", "true");
    return view;
  }
}
