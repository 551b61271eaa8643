/**
 * An order book, built from a snapshot and the changes since. No DOM.
 *
 * Invariant: what it shows is whole. Without a snapshot, or after a gap until the next one, `whole` is false.
 *
 * @module book
 */

import { numeric } from "../topics/payload.js";
import { bookSides } from "./shape.js";

/** @typedef {{price: string, size: string, sum: number}} Level */

const SELL = /^(s|sell|ask|offer)$/i;

export class Book {
  whole = false;
  /** Goes up with every change, for those who paint. */
  version = 0;
  #bids = new Map(); // price -> [price, size] as the feed writes them
  #asks = new Map();

  /** @param {{kind?: string, data?: any}} frame */
  take({ kind, data }) {
    const sides = bookSides(data);
    if (!sides) return;
    this.version += 1;
    if (kind !== "delta") this.#begin();
    if (kind === "delta" && !this.whole) return;
    for (const level of sides.bids) change(this.#bids, level);
    for (const level of sides.asks) change(this.#asks, level);
    for (const [side, ...level] of sides.changes) change(SELL.test(side) ? this.#asks : this.#bids, level);
  }

  /** Changes are missing: it is whole again with the next snapshot. */
  gap() {
    [this.whole, this.version] = [false, this.version + 1];
  }

  #begin() {
    this.#bids.clear();
    this.#asks.clear();
    this.whole = true;
  }

  /**
   * The best levels of both sides, best first, with the sum of the sizes up to each.
   * @param {number} count
   * @returns {{bids: Level[], asks: Level[]}}
   */
  depth(count) {
    return { bids: best(this.#bids, count, -1), asks: best(this.#asks, count, 1) };
  }

  get levels() {
    return this.#bids.size + this.#asks.size;
  }
}

function change(side, level) {
  const [price, size] = priceAndSize(level);
  if (Number(size) === 0) side.delete(Number(price));
  else if (size !== undefined) side.set(Number(price), [String(price), String(size)]);
}

/** `[price, size, …]`, `["change", price, size]`, or an object. */
function priceAndSize(level) {
  if (!Array.isArray(level)) {
    const named = (names) => names.map((name) => level[name]).find((value) => value !== undefined);
    return [named(["price", "px", "p", "price_level"]), named(["size", "qty", "quantity", "amount", "volume", "sz", "q", "s", "new_quantity"])];
  }
  if (Number.isNaN(numeric(level[0]))) return level[0] === "delete" ? [level[1], 0] : [level[1], level[2]];
  return [level[0], level[1]];
}

function best(side, count, sign) {
  const prices = [...side.keys()].sort((a, b) => sign * (a - b)).slice(0, count);
  let sum = 0;
  return prices.map((key) => {
    const [price, size] = side.get(key);
    sum += Number(size);
    return { price, size, sum };
  });
}
