/** The promises of the page's models, without a browser, a server or a clock. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { checkPattern, matches } from "../../static/fanline.js";
import { History } from "../../static/history.js";
import { Quantiles } from "../../static/meter.js";
import { commonName, findPlace, valueAt } from "../../static/payload.js";
import { Row } from "../../static/row.js";
import { find, suggest } from "../../static/suggest.js";

test("the value of any venue's payload is found", () => {
  for (const [data, value] of [
    [{ bid: 1, ask: 3 }, 2],
    [{ price: "61837.63000000", size: "1" }, 61837.63],
    [{ stream: "x", data: { u: 5, s: "BTCUSDT", b: "10.0", B: "3", a: "11.0", A: "4" } }, 10.5],
    [{ e: "trade", s: "X", t: 37, p: "7.5", q: "1", b: 88, a: 99 }, 7.5],
    [{ e: "24hrTicker", p: "-3", c: "50", b: "49", a: "51" }, 50],
    [{ e: "kline", k: { o: "1", c: "2" } }, 2],
    [{ arg: { channel: "tickers" }, data: [{ last: "1" }, { last: "2" }] }, 2],
    [{ jsonrpc: "2.0", params: { data: { last_price: 3, mark_price: 4 } } }, 3],
    [{ ev: "Q", sym: "A", bp: 1, ap: 2, c: 1 }, 1.5],
    [{ price_feed: { id: "f", price: { price: "2920679499999", expo: -8 } } }, 29206.79499999],
    [42, 42],
  ]) {
    assert.equal(valueAt(data, findPlace(data)).value, value, JSON.stringify(data));
  }
  const book = { bids: [["1", "2"]], asks: [] };
  for (const data of ["text", null, undefined, book, { e: "depthUpdate", b: [["1", "2"]], a: [] }]) {
    assert.equal(findPlace(data), null, JSON.stringify(data));
  }
});

test("a message without the value does not make the value younger", () => {
  const row = new Row("t");
  row.take({ data: { last: "5.10" } }, 1000, null);
  row.take({ data: { bid: "5" } }, 9000, null);
  assert.deepEqual([row.valueText, row.at, row.count], ["5.1", 1000, 2]);
});

test("a topic is quiet by its own habit", () => {
  const row = new Row("t");
  for (let i = 0; i < 10; i++) row.take({ data: i }, 1000 * i, null);
  assert.deepEqual([row.isQuiet(9000 + 7000), row.isQuiet(9000 + 9000)], [false, true]);
});

test("a history is bounded, thinned, and keeps its gaps", () => {
  const history = new History();
  for (let i = 0; i < 5000; i++) history.push(i * 100, i);
  assert.equal(history.length, 900);
  assert.equal(history.values(1)[0], 4999);
  history.gap(600_000);
  history.gap(600_001);
  history.push(600_002, 1);
  history.push(600_300, 2);
  assert.deepEqual(history.values(4), [4999, NaN, 1, 2]);
  assert.deepEqual(history.columns()[1].slice(-4), [4999, null, 1, 2]);
});

test("quantiles are those of the window", () => {
  const quantiles = new Quantiles();
  quantiles.add(0, 9999);
  for (let i = 1; i <= 100; i++) quantiles.add(6000, i);
  assert.deepEqual(quantiles.read(6000, [0.5, 0.99]), [51, 100]);
  assert.equal(quantiles.read(60_000, [0.5]), null);
});

test("plain text gets a pattern that shows something", () => {
  const topics = new Set(["trade.BTC-USD", "quote.BTC-USD", "trade.ETH-USD"]);
  assert.deepEqual(suggest(["btc"], topics), ["*.*BTC*", ">"]);
  assert.deepEqual(suggest(["trade.*"], topics), []);
  assert.deepEqual(suggest(["nothing"], topics), [">"]);
});

test("a part of a name finds the topics that contain it, everything else is taken as it is", () => {
  const topics = new Set(["trade.BTC-USD", "quote.BTC-USD", "trade.ETH-USD", "btcusdt@trade", "chat.#rust"]);
  for (const [words, patterns] of [
    [["btc"], ["*.*BTC*", "*btc*"]],
    [["trade.btc"], ["*trade.BTC*"]],
    [["ade.ETH-USD"], ["*ade.ETH-USD*"]],
    [["rust", "eth"], ["*.*rust*", "*.*ETH*"]],
    [["trade.BTC-USD"], ["trade.BTC-USD"]],
    [["trade.*"], ["trade.*"]],
    [["nothing"], ["nothing"]],
  ]) {
    const found = find(words, topics);
    assert.deepEqual(found, patterns, words.join());
    for (const pattern of found) assert.equal(checkPattern(pattern), null, pattern);
    if (patterns.join() === "nothing") continue;
    for (const pattern of found) assert.ok([...topics].some((topic) => matches(pattern, topic)), pattern);
  }
});

test("what the values are is named if it is one thing", () => {
  assert.equal(commonName(["/bid|/ask", null, "/bid|/ask"]), "mean of bid, ask");
  assert.equal(commonName(["/price", "/bid|/ask", "/price"]), "price / mean of bid, ask");
  assert.equal(commonName(["/price", "/bid|/ask", "/last"]), "see each row");
  assert.equal(commonName([null]), "");
});
