/**
 * The table of topics: only what is in sight has an element, is painted, and only if it changed.
 *
 * It scrolls with the page. All rows have one height, so that the place of a row is its index times that height.
 *
 * @module table
 */

import { GroupView, RowView } from "./row_view.js";

/** Rows beyond both edges: a flick of a finger shows them before the next frame. */
const MARGIN_ROWS = 8;

export class Table {
  #body;
  /** As high as a row. */
  #probe;
  #hooks;
  #items = [];
  #indices = new Map(); // key -> index of its item
  #views = new Map(); // key -> view of an item in sight, or of the active one
  #dirty = new Set();
  #active = null; // key of the row that the Tab key reaches
  #isEntered = false;
  #selected = null;
  #height = 0;
  #look = { colours: {}, size: { width: 0, height: 0 } };
  #moved = true;

  /**
   * @param {HTMLElement} body whose first child is as high as a row
   * @param {object} hooks
   * @param {(topic: string) => boolean} hooks.isCurrent
   * @param {(topic: string) => number} hooks.delayOf
   * @param {(topic: string) => string} hooks.hrefOf
   * @param {(topic: string) => void} hooks.onPin
   * @param {(group: string) => void} hooks.onGroup
   * @param {() => void} hooks.onMove something else is in sight: a painting is due
   */
  constructor(body, hooks) {
    [this.#body, this.#hooks] = [body, hooks];
    this.#probe = body.firstElementChild;
    const moved = () => {
      this.#moved = true;
      hooks.onMove();
    };
    addEventListener("scroll", moved, { passive: true });
    const sizes = new ResizeObserver(() => {
      this.#measure();
      moved();
    });
    sizes.observe(body);
    sizes.observe(this.#probe);
    body.addEventListener("click", (event) => this.#onClick(event));
    body.addEventListener("keydown", (event) => this.#onKey(event));
    body.addEventListener("focusin", ({ target }) => {
      this.#isEntered = true;
      this.#activate(keyOf(target));
    });
    this.readColours();
  }

  /** To be called again when the colour scheme changes. */
  readColours() {
    const style = getComputedStyle(document.documentElement);
    const [up, down, even, old] = ["--up", "--down", "--accent", "--faint"].map((name) => style.getPropertyValue(name).trim());
    this.#look = { ...this.#look, colours: { up, down, even, old } };
  }

  /** The items from top to bottom. @param {(import("./order.js").RowItem|import("./order.js").GroupItem)[]} items */
  show(items) {
    this.#items = items;
    this.#indices = new Map(items.map(({ key }, index) => [key, index]));
    // Until somebody was in the table, the first row is the one to enter it by.
    if (!this.#isEntered || !this.#indices.has(this.#active)) this.#activate(items.find(({ row }) => row)?.key ?? items[0]?.key);
    this.#body.style.height = `${items.length * this.#height}px`;
    this.#body.parentElement.setAttribute("aria-rowcount", String(items.length + 1));
    this.#moved = true;
  }

  /** Remembers that a row changed. @param {import("./row.js").Row} row */
  touch(row) {
    const view = this.#views.get(row.topic);
    if (view) this.#dirty.add(view);
  }

  /** Every row in sight is to be looked at again: time has passed, or the state has changed. */
  touchAll() {
    for (const view of this.#views.values()) this.#dirty.add(view);
  }

  /** Paints what is in sight and has changed. @param {number} now */
  paint(now) {
    if (this.#moved) this.#arrange();
    for (const view of this.#dirty) {
      const topic = view.row?.topic;
      if (topic === undefined) continue;
      const confidence = { current: this.#hooks.isCurrent(topic), delay: this.#hooks.delayOf(topic) };
      view.paint(now, confidence, this.#look);
    }
    this.#dirty.clear();
  }

  /** Whether the pointer or the keyboard is in it, so that rows should stay where they are. */
  get inUse() {
    const pointed = matchMedia("(hover: hover)").matches && this.#body.matches(":hover");
    return pointed || this.#body.querySelector(":focus-visible") !== null;
  }

  /** The topic of the active row. */
  get active() {
    return this.#items[this.#indices.get(this.#active)]?.row?.topic ?? null;
  }

  /** Marks the topic whose view is open. @param {string|null} topic */
  select(topic) {
    this.#selected = topic;
    for (const view of this.#views.values()) view.select(view.key === topic);
    if (this.#indices.has(topic)) this.#activate(topic);
  }

  /** The address has changed, and with it those of the topics. */
  refer() {
    for (const view of this.#views.values()) if (view.row) view.link.href = this.#hooks.hrefOf(view.row.topic);
  }

  /** Moves the focus by so many rows, or into the table. @param {number} by */
  step(by) {
    if (!this.#body.checkVisibility()) return;
    const isInside = this.#body.contains(document.activeElement);
    const index = (this.#indices.get(this.#active) ?? 0) + (isInside ? by : 0);
    this.#focus(Math.min(Math.max(index, 0), this.#items.length - 1));
  }

  #focus(index) {
    const item = this.#items[index];
    if (!item) return;
    this.#activate(item.key);
    this.#reveal(index);
    this.#arrange();
    this.#views.get(item.key)?.link.focus({ preventScroll: true });
    this.#hooks.onMove();
  }

  /** Scrolls so that a row is in sight, below the head of the table that stays. */
  #reveal(index) {
    const { top } = this.#body.getBoundingClientRect();
    const place = top + index * this.#height;
    const head = this.#body.previousElementSibling.offsetHeight;
    if (place < head) scrollBy(0, place - head);
    else if (place + this.#height > innerHeight) scrollBy(0, place + this.#height - innerHeight);
  }

  #activate(key = null) {
    if (key === this.#active) return;
    this.#views.get(this.#active)?.activate(false);
    this.#active = key;
    this.#views.get(key)?.activate(true);
  }

  #measure() {
    const canvas = this.#body.querySelector("canvas");
    const size = canvas ? { width: canvas.clientWidth, height: canvas.clientHeight } : this.#look.size;
    this.#height = this.#probe.offsetHeight;
    this.#body.style.height = `${this.#items.length * this.#height}px`;
    if (size.width === this.#look.size.width && size.height === this.#look.size.height) return;
    this.#look = { ...this.#look, size };
    this.touchAll();
  }

  /** Elements for the rows in sight and the active one, and for no others; in the order in which they are read. */
  #arrange() {
    this.#moved = false;
    const { top } = this.#body.getBoundingClientRect();
    const height = this.#height;
    if (!height) return; // the table is not shown
    const first = Math.max(Math.floor(-top / height) - MARGIN_ROWS, 0);
    const last = Math.min(Math.ceil((innerHeight - top) / height) + MARGIN_ROWS, this.#items.length);
    const active = this.#indices.get(this.#active);
    const wanted = Array.from({ length: Math.max(last - first, 0) }, (_, i) => first + i);
    if (active < first) wanted.unshift(active);
    else if (active >= last) wanted.push(active);
    const kept = new Set(wanted.map((index) => this.#items[index].key));
    for (const [key, view] of this.#views) if (!kept.has(key)) this.#remove(key, view);
    const focused = this.#body.contains(document.activeElement) ? document.activeElement : null;
    let next = this.#probe.nextElementSibling;
    for (const index of wanted) {
      const { element } = this.#put(index);
      if (element === next) next = next.nextElementSibling;
      else this.#body.insertBefore(element, next);
    }
    if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
    if (!this.#look.size.width) this.#measure();
  }

  #put(index) {
    const item = this.#items[index];
    let view = this.#views.get(item.key);
    // A row that came again, after its topic was given back, is another one.
    if (view && item.row !== view.row) {
      this.#remove(item.key, view);
      view = undefined;
    }
    if (!view) {
      view = item.row ? new RowView(item, { href: this.#hooks.hrefOf(item.row.topic) }) : new GroupView(item);
      view.select(item.key === this.#selected);
      view.activate(item.key === this.#active);
      this.#views.set(item.key, view);
      this.#dirty.add(view);
    }
    view.place(index, this.#height, item);
    return view;
  }

  #remove(key, view) {
    view.element.remove();
    this.#views.delete(key);
    this.#dirty.delete(view);
  }

  #onClick({ target }) {
    const row = target.closest(".row");
    if (!row) return;
    if (target.closest(".pin")) this.#hooks.onPin(row.dataset.topic);
    else if (row.dataset.group !== undefined) this.#hooks.onGroup(row.dataset.group);
    else if (!target.closest("a")) row.querySelector("a").click();
  }

  #onKey(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20, Home: -Infinity, End: Infinity };
    const by = steps[event.key];
    if (by === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    this.step(by);
  }
}

function keyOf(target) {
  const { topic, group } = target.closest(".row")?.dataset ?? {};
  return topic ?? (group === undefined ? null : ` ${group}`);
}
