/**
 * The order book of a topic: the best levels of both sides, with their depth.
 *
 * It has a subscription of its own, which starts with the snapshot and the changes since.
 *
 * @module book_panel
 */

import { element, keepCount, setText, byId } from "../dom.js";
import { Book } from "./book.js";

const LEVELS = 12;
/** A person reads no faster; a busy book changes 100 times a second. */
const PAINT_MS = 100;

export class BookPanel {
  #client;
  #book = null;
  #subscription = null;
  #painted = { at: 0, version: -1 };
  #topic = "";

  /** @param {ReturnType<typeof import("../../fanline.js").connect>} client */
  constructor(client) {
    this.#client = client;
    const gap = ({ topic }) => topic === this.#topic && this.#book?.gap();
    client.on("gap", gap);
  }

  /** @param {import("../topics/row.js").Row} row */
  open(row) {
    this.#topic = row.topic;
    this.#book = new Book();
    this.#painted = { at: 0, version: -1 };
    this.#subscription = this.#client.subscribe(row.topic, (frame) => this.#book.take(frame));
  }

  close() {
    this.#subscription?.unsubscribe();
    [this.#subscription, this.#book, this.#topic] = [null, null, ""];
  }

  /** @param {number} now */
  paint(now) {
    if (this.#book.version === this.#painted.version || now - this.#painted.at < PAINT_MS) return;
    this.#painted = { at: now, version: this.#book.version };
    const { bids, asks } = this.#book.depth(LEVELS);
    const sum = Math.max(bids.at(-1)?.sum ?? 0, asks.at(-1)?.sum ?? 0);
    paintSide(byId("book-bids"), bids, sum);
    paintSide(byId("book-asks"), asks, sum);
    const spread = bids.length && asks.length ? Number(asks[0].price) - Number(bids[0].price) : NaN;
    const decimals = Math.max(...[bids, asks].flat().map(({ price }) => (price.split(".")[1] ?? "").length), 0);
    setText(byId("book-spread"), Number.isNaN(spread) ? "–" : spread.toFixed(decimals));
    setText(byId("book-levels"), String(this.#book.levels));
    const state = this.#book.whole ? "" : "Changes are missing: this book is not whole until the next snapshot.";
    setText(byId("book-state"), state);
    byId("book").dataset.whole = String(this.#book.whole);
  }
}

function paintSide(body, levels, sum) {
  const rows = keepCount(body, levels.length, () => element("tr", {}, element("td", { class: "num" }), element("td", { class: "num" }), element("td", { class: "num" })));
  levels.forEach((level, i) => {
    const [price, size, total] = rows[i].cells;
    setText(price, level.price);
    setText(size, level.size);
    setText(total, String(Number(level.sum.toPrecision(8))));
    rows[i].style.setProperty("--depth", `${sum ? Math.round((level.sum / sum) * 1000) / 10 : 0}%`);
  });
}
