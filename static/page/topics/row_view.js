/**
 * The cells of one row of the table, and what stands in them: only what has changed is written.
 *
 * What is not known to be current never looks as if it were: that is asked anew at each painting.
 *
 * @module row_view
 */

import { placeName } from "./payload.js";
import { age } from "./row.js";
import { drawSparkline } from "./sparkline.js";

const FLASH_MS = 300;
/** Lines are looked at, not read: five a second are enough, and drawing them is most of the work. */
const LINE_MS = 200;
/** What is said of a value that is not simply current, for those who do not see how it looks. */
const WORDS = { old: "not current", unconfirmed: "not confirmed since the feed was down", quiet: "unusually quiet", delayed: "delayed" };

/** `15 min`, `20 s`. @param {number} ms */
export const delayText = (ms) => (ms < 120_000 ? `${ms / 1000} s` : `${Math.round(ms / 60_000)} min`);

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

/** A name that breaks between its tokens where there is little room. @param {string} topic */
export function breakable(topic) {
  return topic.split(/(?<=\.)/).flatMap((token) => [token, document.createElement("wbr")]);
}

export class RowView {
  #shown = new Map();
  #flashUntil = 0;
  #lastValue = NaN;
  #drawn = "";
  #drawnAt = 0;
  #size = { width: 0, height: 0 };

  /** @param {import("./order.js").RowItem} item @param {{href: string}} options */
  constructor({ row, key }, { href }) {
    this.row = row;
    this.key = key;
    this.pin = element("button", "pin", "★");
    this.pin.type = "button";
    this.pin.tabIndex = -1;
    this.pin.setAttribute("aria-label", `Pin ${row.topic}`);
    this.link = element("a", "name", ...breakable(row.topic));
    this.link.href = href;
    this.link.title = row.topic;
    this.link.tabIndex = -1;
    const cell = (name, ...children) => {
      const made = element("div", name, ...children);
      made.setAttribute("role", "gridcell");
      return made;
    };
    this.value = element("span", "");
    this.mark = element("abbr", "mark-delayed");
    this.mark.hidden = true;
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("aria-hidden", "true");
    [this.change, this.percent, this.rate, this.age] = Array.from({ length: 4 }, () => document.createTextNode(""));
    this.word = element("span", "unseen");
    this.element = element(
      "div",
      "row",
      cell("c-topic", this.pin, this.link),
      cell("c-value num", this.value, this.mark),
      cell("c-change num", this.change),
      cell("c-percent num", this.percent),
      cell("c-trend", this.canvas),
      cell("c-rate num", this.rate),
      cell("c-age num", this.age, this.word),
    );
    this.element.setAttribute("role", "row");
    this.element.dataset.topic = row.topic;
  }

  /** Where it stands. @param {number} index @param {number} height of a row in px @param {import("./order.js").RowItem} item */
  place(index, height, { pinned }) {
    this.#set("top", index * height, (top) => (this.element.style.transform = `translateY(${top}px)`));
    this.#set("index", index, () => this.element.setAttribute("aria-rowindex", String(index + 2)));
    this.#set("pinned", pinned, () => this.pin.setAttribute("aria-pressed", String(pinned)));
  }

  /** @param {boolean} selected whether it is the topic whose view is open */
  select(selected) {
    this.#set("selected", selected, () => {
      if (selected) this.link.setAttribute("aria-current", "true");
      else this.link.removeAttribute("aria-current");
    });
  }

  /** @param {boolean} active whether it is the row that the Tab key reaches */
  activate(active) {
    this.#set("active", active, () => {
      this.link.tabIndex = this.pin.tabIndex = active ? 0 : -1;
    });
  }

  /**
   * @param {number} now
   * @param {{current: boolean, delay: number}} confidence
   * @param {{colours: Record<string, string>, size: {width: number, height: number}}} look
   */
  paint(now, { current, delay }, { colours, size }) {
    const { row } = this;
    const confidence = confidenceOf(row, now, current, delay);
    const trend = row.percent > 0 ? "up" : row.percent < 0 ? "down" : "even";
    this.#flash(now, confidence);
    this.#text(this.value, row.valueText);
    this.#set("place", row.place, (place) => (this.value.title = place === null ? row.valueText : placeName(place)));
    this.#set("delay", delay, () => this.#markDelay(delay));
    this.#text(this.change, row.changeText);
    this.#text(this.percent, row.percentText);
    this.#text(this.rate, row.rate >= 0.05 ? row.rate.toFixed(1) : "–");
    this.#text(this.age, age(now - row.at));
    this.#text(this.word, WORDS[confidence] ? `, ${WORDS[confidence]}` : "");
    this.#data("trend", trend);
    this.#data("confidence", confidence);
    this.#data("kind", row.isNumeric ? "number" : "text");
    this.#line(now, confidence === "old" ? colours.old : colours[trend], size, row.history.version);
  }

  /** Two things that look alike are one drawing. */
  #line(now, colour, size, version) {
    const drawing = `${version} ${colour} ${size.width}`;
    if (drawing === this.#drawn || (now - this.#drawnAt < LINE_MS && size.width === this.#size.width)) return;
    [this.#drawn, this.#drawnAt, this.#size] = [drawing, now, size];
    drawSparkline(this.canvas, this.row.history, colour, size);
  }

  #markDelay(delay) {
    this.mark.hidden = !delay;
    this.mark.textContent = delay ? "D" : "";
    this.mark.title = delay ? `Delayed ${delayText(delay)}` : "";
  }

  #flash(now, confidence) {
    const { value, direction } = this.row;
    const isLive = confidence === "current";
    if (value !== this.#lastValue && !Number.isNaN(this.#lastValue) && isLive) this.#flashUntil = now + FLASH_MS;
    this.#lastValue = value;
    const flashing = now < this.#flashUntil && direction && isLive;
    this.#data("flash", flashing ? (direction > 0 ? "up" : "down") : "no");
  }

  #text(node, text) {
    this.#set(node, text, () => (node.textContent = text));
  }

  #data(name, value) {
    this.#set(name, value, () => (this.element.dataset[name] = value));
  }

  #set(key, value, write) {
    if (this.#shown.get(key) === value) return;
    this.#shown.set(key, value);
    write(value);
  }
}

/** How far a value can be trusted: `old`, `unconfirmed`, `delayed`, `quiet` or `current`. */
export function confidenceOf(row, now, current, delay) {
  if (!current) return "old";
  if (row.unconfirmed) return "unconfirmed";
  if (row.isQuiet(now - delay)) return "quiet";
  return delay ? "delayed" : "current";
}

export class GroupView {
  #shown = "";

  /** @param {import("./order.js").GroupItem} item */
  constructor({ key, group }) {
    this.key = key;
    this.group = group;
    this.link = element("button", "group-name");
    this.link.type = "button";
    const cell = element("div", "c-group", this.link);
    cell.setAttribute("role", "gridcell");
    cell.setAttribute("aria-colspan", "7");
    this.element = element("div", "row group", cell);
    this.element.setAttribute("role", "row");
    this.element.dataset.group = group;
  }

  place(index, height, { group, count, closed }) {
    const shown = `${index} ${height} ${count} ${closed}`;
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.element.style.transform = `translateY(${index * height}px)`;
    this.element.setAttribute("aria-rowindex", String(index + 2));
    this.link.setAttribute("aria-expanded", String(!closed));
    this.link.textContent = `${group || "Without a group"} (${count})`;
  }

  select() {}

  activate(active) {
    this.link.tabIndex = active ? 0 : -1;
  }

  paint() {}
}
