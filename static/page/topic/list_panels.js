/**
 * Panels of topics whose messages are read one by one: the tape of trades, and the chat.
 *
 * @module list_panels
 */

import { byId, element, keepCount, setText } from "../dom.js";

const ROWS_MAX = 100;
/** Faster than that nobody reads. */
const PAINT_MS = 100;

const clock = (ms) => new Date(ms).toLocaleTimeString([], { hourCycle: "h23" });

class ListPanel {
  #row = null;
  #painted = { at: 0, version: -1 };

  /** @param {import("../topics/row.js").Row} row */
  open(row) {
    this.#row = row;
    this.#painted = { at: 0, version: -1 };
  }

  close() {
    this.#row = null;
  }

  /** @param {number} now */
  paint(now) {
    const version = this.#row.messages?.version ?? 0;
    if (version === this.#painted.version || now - this.#painted.at < PAINT_MS) return;
    this.#painted = { at: now, version };
    this.fill(this.#row.messages?.newest(ROWS_MAX) ?? []);
  }
}

export class TapePanel extends ListPanel {
  fill(trades) {
    byId("tape-empty").hidden = trades.length > 0;
    const cells = () => Array.from({ length: 4 }, (_, i) => element("td", i === 1 || i === 2 ? { class: "num" } : {}));
    const rows = keepCount(byId("tape-rows"), trades.length, () => element("tr", {}, ...cells()));
    trades.forEach(({ at, priceText, sizeText, side }, i) => {
      [clock(at), priceText, sizeText, side].forEach((text, cell) => setText(rows[i].cells[cell], text));
      if (rows[i].dataset.side !== side) rows[i].dataset.side = side;
    });
  }
}

export class ChatPanel extends ListPanel {
  fill(messages) {
    byId("chat-empty").hidden = messages.length > 0;
    const make = () => element("li", {}, element("time"), " ", element("b"), " ", element("span"));
    const lines = keepCount(byId("chat-lines"), messages.length, make);
    messages.forEach(({ at, author, text }, i) => {
      const [time, name, words] = lines[i].children;
      setText(time, clock(at));
      setText(name, author);
      setText(words, text);
    });
  }
}
