/**
 * A feed with one topic of each kind: a quote, trades, an order book, a chat, and JSON that is none of these.
 *
 * It is a recording of ten seconds, written from a seed and served in a loop by `fanline replay`. market.toml is its profile.
 */

import { writeFileSync } from "node:fs";

const STEP_MS = 50;
const STEPS = 200;
const LEVELS = 30;
const TEXTS = ["good morning", "who saw that print?", "size on the bid", "spread is tight today", "lunch?"];
const AUTHORS = ["ada", "grace", "edsger", "barbara"];

/** Numbers in [0, 1) that are the same at each run (mulberry32). */
function dice(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function* messages() {
  const next = dice(7);
  const price = (level) => (100 + level / 100).toFixed(2);
  const size = () => (0.1 + 5 * next()).toFixed(2);
  const side = (sign) => Array.from({ length: LEVELS }, (_, i) => [price(sign * (i + 1)), size()]);
  yield [0, { type: "snapshot", topic: "book.ACME", bids: side(-1), asks: side(1) }];
  for (let step = 0; step < STEPS; step++) {
    const drift = Math.round(8 * Math.sin(step / 12) + 2 * next());
    const change = [price((next() < 0.5 ? -1 : 1) * (1 + Math.floor(next() * LEVELS))), next() < 0.1 ? "0" : size()];
    const isBid = Number(change[0]) < 100;
    yield [step, { type: "change", topic: "book.ACME", bids: isBid ? [change] : [], asks: isBid ? [] : [change] }];
    if (step % 2 === 0) {
      const [bid, ask] = [Number(price(drift - 1)), Number(price(drift + 1))];
      yield [step, { topic: "quote.ACME", symbol: "ACME", bid, bid_size: 300, ask, ask_size: 200 }];
    }
    if (step % 4 === 0) {
      const taker = next() < 0.5 ? "buy" : "sell";
      yield [step, { topic: "trade.ACME", price: Number(price(drift)), size: Number(size()), side: taker }];
    }
    if (step % 10 === 0) {
      const author = AUTHORS[Math.floor(next() * AUTHORS.length)];
      yield [step, { topic: "chat.lobby", user: author, text: TEXTS[Math.floor(next() * TEXTS.length)] }];
    }
    if (step % 20 === 0) yield [step, { topic: "pump.7", state: step % 40 ? "idle" : "running", flags: ["primed"] }];
  }
}

/** Writes the recording. @param {string} path */
export function writeRecording(path) {
  const line = ([step, message]) => {
    const data = JSON.stringify(message);
    return `${JSON.stringify({ t_ns: (1_800_000_000_000 + step * STEP_MS) * 1_000_000, dir: "in", data })}\n`;
  };
  writeFileSync(path, [...messages()].map(line).join(""));
}
