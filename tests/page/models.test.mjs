/** The promises of the page's models, without a browser, a server or a clock. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { checkPattern, matches } from "../../static/fanline.js";
import { Exposition } from "../../static/page/health/exposition.js";
import { Vitals } from "../../static/page/health/vitals.js";
import { format, home, parse } from "../../static/page/route.js";
import { ofBrowser } from "../../static/page/storage.js";
import { Book } from "../../static/page/topic/book.js";
import { Messages } from "../../static/page/topic/messages.js";
import { chatMessage, kindOf, quote, trades } from "../../static/page/topic/shape.js";
import { History } from "../../static/page/topics/history.js";
import { Quantiles } from "../../static/page/topics/meter.js";
import { arrange } from "../../static/page/topics/order.js";
import { commonName, findPlace, valueAt } from "../../static/page/topics/payload.js";
import { Row } from "../../static/page/topics/row.js";
import { find, suggest } from "../../static/page/topics/suggest.js";
import { snippets } from "../../static/page/use/snippets.js";

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

test("an address holds all that is chosen, and nothing else", () => {
  assert.equal(format(home()), "#/topics");
  const route = {
    ...home(),
    view: "topic",
    topic: "chat.#rust/100%",
    patterns: ["trade.*", "a>b"],
    sort: "rate",
    descending: true,
    pins: ["quote.V", "btc@trade"],
    group: 2,
    as: "chat",
    place: "/data/0/p",
    language: "curl",
  };
  const hash = format(route);
  assert.equal(hash, "#/topic/chat.%23rust/100%25?topics=trade.*,a%3Eb&sort=-rate&pins=quote.V,btc@trade&group=2&as=chat&place=/data/0/p&in=curl");
  assert.deepEqual(parse(hash), route);
});

test("an address that makes no sense opens the topics", () => {
  for (const hash of ["", "#", "#/nothing", "#/topic/", "#/topics?sort=-fame&group=9x&as=film&in=cobol", "#/topics?topics=,&pins="]) {
    assert.deepEqual(parse(hash), home(), hash);
  }
  assert.equal(parse("#/topic/%E0%A4%A").topic, "%E0%A4%A");
  assert.equal(parse("#/topics?group=99").group, 2);
  assert.equal(parse(`#/topics?pins=${Array.from({ length: 500 }, (_, i) => `t${i}`)}`).pins.length, 100);
});

test("rows are sorted, those without a value last, pins first, groups folded", () => {
  const rows = ["b.2", "a.1", "b.1", "c"].map((topic, i) => {
    const row = new Row(topic);
    if (topic !== "c") row.take({ topic, data: { price: i } }, 1000 * (i + 1), null);
    return row;
  });
  const show = (route, closed = []) =>
    arrange(rows, { ...home(), ...route }, new Set(closed)).map(({ row, group, count }) => row?.topic ?? `${group}:${count}`);
  assert.deepEqual(show({}), ["a.1", "b.1", "b.2", "c"]);
  assert.deepEqual(show({ descending: true }), ["c", "b.2", "b.1", "a.1"]);
  assert.deepEqual(show({ sort: "value", descending: true }), ["b.1", "a.1", "b.2", "c"]);
  assert.deepEqual(show({ sort: "value" }), ["b.2", "a.1", "b.1", "c"]);
  assert.deepEqual(show({ sort: "age" }), ["b.1", "a.1", "b.2", "c"]);
  assert.deepEqual(show({ pins: ["b.2"], group: 1 }, ["a"]), ["b.2", ":1", "c", "a:1", "b:1", "b.1"]);
});

test("a topic is shown as what it is, whoever sends it", () => {
  for (const [expected, data, topic = "t", kind] of [
    ["quote", { topic: "quote.V", bid: 1.5, bid_size: 3, ask: 1.6, ask_size: 2 }],
    ["quote", { channel: "ticker", data: [{ symbol: "BTC/USD", bid: 1, ask: 2, last: 1.5 }] }],
    ["quote", { stream: "btcusdt@bookTicker", data: { u: 1, s: "BTCUSDT", b: "1.0", B: "3", a: "2.0", A: "1" } }],
    ["quote", 17.5],
    ["trades", { price: 1.5, size: 3, side: "buy" }],
    ["trades", { e: "trade", s: "BTCUSDT", t: 12, p: "61737.6", q: "0.01", b: 88, a: 90, m: true }],
    ["trades", { arg: { channel: "trades" }, data: [{ px: "1.5", sz: "2", side: "sell" }] }],
    ["book", { bids: [["1", "2"]], asks: [["3", "4"]] }],
    ["book", { type: "l2update", changes: [["buy", "1.5", "0"]] }],
    ["book", { channel: "book", data: [{ bids: [], asks: [{ price: 1, qty: 2 }] }] }],
    ["book", { params: { data: { bids: [["new", 0.5, 3]], asks: [] } } }],
    ["chat", { user: "ada", text: "hello" }],
    ["chat", ":ada!ada@host PRIVMSG #rust :hello"],
    ["chat", "@badges=;display-name=Ada :ada!ada@host PRIVMSG #rust :hello"],
    ["json", { state: "idle", flags: ["a"] }],
    ["json", { state: "idle", level: 3, value: 2 }, "t", "delta"],
    ["json", "PING"],
    ["json", undefined],
    ["json", null],
    ["json", []],
  ]) {
    assert.equal(kindOf({ topic, kind, data }), expected, JSON.stringify(data));
  }
});

test("trades, quotes and chat lines are read out of what wraps them", () => {
  assert.deepEqual(trades({ data: [{ p: "1.50", v: 2, S: "B" }, { p: 1.6, v: 1 }] }), [
    { price: 1.5, priceText: "1.50", size: 2, sizeText: "2", side: "buy" },
    { price: 1.6, priceText: "1.6", size: 1, sizeText: "1", side: "" },
  ]);
  assert.equal(trades({ p: "1", q: "2", m: false })[0].side, "buy");
  assert.deepEqual(quote({ data: { b: "1.0", B: "3", a: "2.0", A: "1" } }), { bid: 1, ask: 2, bidSize: "3", askSize: "1" });
  assert.equal(quote({ p: "61737.6", q: "0.01", b: 88, a: 90 }), null, "ids are no prices");
  assert.equal(quote({ bid: 3, ask: 2 }), null);
  assert.deepEqual(chatMessage({ message: { from: { name: "ada" }, text: "hi" } }), { author: "ada", text: "hi" });
});

test("a book is built from a snapshot and its changes, and is not whole after a gap", () => {
  const book = new Book();
  const texts = (side) => book.depth(10)[side].map(({ price, size, sum }) => [price, size, sum]);
  book.take({ kind: "delta", data: { bids: [["1", "1"]], asks: [] } });
  assert.deepEqual([book.whole, book.levels], [false, 0], "changes without a snapshot are none");
  book.take({ kind: "snapshot", data: { bids: [["9", "1"], ["10", "2.50"], ["8", "4"]], asks: [["12", "1"], ["11", "2"]] } });
  assert.deepEqual(texts("bids"), [["10", "2.50", 2.5], ["9", "1", 3.5], ["8", "4", 7.5]]);
  assert.deepEqual(texts("asks"), [["11", "2", 2], ["12", "1", 3]]);
  book.take({ kind: "delta", data: { bids: [["10", "0"], ["9.5", "7"]], asks: [] } });
  book.take({ kind: "delta", data: { changes: [["sell", "11", "0.00"], ["buy", "8", "1"]] } });
  book.take({ kind: "delta", data: { params: { data: { bids: [["delete", 9, 0], ["new", 7, 2]], asks: [] } } } });
  book.take({ kind: "delta", data: { data: [{ asks: [{ price: 13, qty: 5 }], bids: [] }] } });
  assert.deepEqual(texts("bids"), [["9.5", "7", 7], ["8", "1", 8], ["7", "2", 10]]);
  assert.deepEqual(texts("asks"), [["12", "1", 1], ["13", "5", 6]]);
  assert.deepEqual(book.depth(1).bids.length, 1);
  book.gap();
  book.take({ kind: "delta", data: { bids: [["6", "1"]], asks: [] } });
  assert.deepEqual([book.whole, texts("bids").length], [false, 3]);
  book.take({ kind: "snapshot", data: { bids: [["1", "1"]], asks: [] } });
  assert.deepEqual([book.whole, texts("bids")], [true, [["1", "1", 1]]]);
});

test("of a long list only the newest are kept", () => {
  const messages = new Messages(3);
  for (let i = 0; i < 100; i++) messages.push(i);
  assert.deepEqual([messages.newest(), messages.newest(2), messages.length], [[99, 98, 97], [99, 98], 3]);
});

const METRICS = (at, state = "live") => `# HELP fanline_sessions Connected clients.
fanline_sessions{shard="0"} 40
fanline_sessions{shard="1"} 60
fanline_sessions_behind{shard="0"} 0
fanline_sessions_behind{shard="1"} ${at}
fanline_shard_busy_ratio{shard="0"} 0.5
fanline_shard_busy_ratio{shard="1"} 0.95
fanline_upstream_state{state="live"} ${state === "live" ? 1 : 0}
fanline_upstream_state{state="down"} ${state === "down" ? 1 : 0}
fanline_upstream_messages_total{class="data"} ${100 * at}
fanline_upstream_messages_total{class="ping"} ${20 * at}
fanline_publish_to_write_seconds_bucket{le="0.001"} ${90 * at}
fanline_publish_to_write_seconds_bucket{le="0.01"} ${99 * at}
fanline_publish_to_write_seconds_bucket{le="+Inf"} ${100 * at}
fanline_auth_keys{issuer="https://id.example/\\"a\\",b"} 0
fanline_build_info{version="1.2.3"} 1
`;

test("metrics are read with their labels", () => {
  const exposition = new Exposition(METRICS(1));
  assert.equal(exposition.sum("fanline_sessions"), 100);
  assert.equal(exposition.sum("fanline_sessions", { shard: "1" }), 60);
  assert.ok(Number.isNaN(exposition.sum("fanline_nothing")));
  assert.equal(exposition.leading("fanline_upstream_state", "state"), "live");
  assert.equal(exposition.leading("fanline_build_info", "version"), "1.2.3");
  assert.deepEqual([...exposition.by("fanline_auth_keys", "issuer")], [['https://id.example/"a",b', 0]]);
  assert.deepEqual(exposition.histogram("fanline_publish_to_write_seconds"), [
    { bound: 0.001, count: 90 },
    { bound: 0.01, count: 9 },
    { bound: Infinity, count: 1 },
  ]);
});

test("rates and latencies are those of the last interval, and what needs attention comes first", () => {
  const vitals = new Vitals();
  vitals.take({ at: 1_000, exposition: new Exposition(METRICS(1)) });
  assert.ok(Number.isNaN(vitals.rates.messages));
  vitals.take({ at: 3_000, exposition: new Exposition(METRICS(5, "down")) });
  assert.equal(vitals.rates.messages, (4 * 120) / 2);
  assert.deepEqual(vitals.latency, { p50: 0.001, p99: 0.01 });
  assert.deepEqual(vitals.shards().map(({ shard, sessions, behind }) => [shard, sessions, behind]), [["0", 40, 0], ["1", 60, 5]]);
  const findings = vitals.findings(3_000).map(({ severity, text }) => `${severity} ${text.split(/[.:]/)[0]}`);
  assert.deepEqual(findings.slice(0, 2), ["bad The feed is down", "bad The issuer https"]);
  assert.deepEqual(findings.slice(2), ["warn Shard 1 is busy for 95 % of the time", "warn On shard 1, 5 of 60 clients are behind"]);
  vitals.take({ at: 5_000, exposition: new Exposition(METRICS(1)) });
  assert.ok(Number.isNaN(vitals.rates.messages), "a restarted server counts anew");
  assert.deepEqual(vitals.columns()[1], [240, null]);
});

test("snippets hold what a shell and a program must not read otherwise", () => {
  const what = { page: new URL("https://h/m/"), socket: new URL("wss://h/m/v1/ws?policy=lossless"), patterns: ["it's.*", ">"], needsToken: true };
  const { js, python, curl, wscat } = snippets(what);
  assert.match(js.code, /from "https:\/\/h\/m\/static\/fanline.js"/);
  assert.match(js.code, /connect\("wss:\/\/h\/m\/v1\/ws", \{ token/);
  assert.match(python.code, /"op": "auth", "token": "TOKEN"/);
  assert.equal(curl.code, "curl -H 'Authorization: Bearer TOKEN' 'https://h/m/v1/snapshot?topics=it%27s.*,%3E'\n");
  assert.match(wscat.code, /-c 'wss:\/\/h\/m\/v1\/ws\?topics=it%27s\.\*,%3E&format=raw'/);
  assert.ok(!snippets({ ...what, needsToken: false }).python.code.includes("TOKEN"));
});

test("what a browser does not keep lasts as long as the page, and what it keeps does not come before it", () => {
  const kept = new Map([["old", "of before"]]);
  let isFull = false;
  const refuse = () => {
    if (isFull) throw new Error("QuotaExceededError");
  };
  const storage = {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, text) => refuse() ?? kept.set(key, text),
    removeItem: (key) => refuse() ?? kept.delete(key),
  };
  for (const localStorage of [storage, null, undefined]) {
    Object.defineProperty(globalThis, "localStorage", { value: localStorage, configurable: true, writable: true });
    isFull = false;
    ofBrowser.set("key", "first");
    assert.equal(ofBrowser.get("key"), "first");
    isFull = true;
    ofBrowser.set("key", "second");
    assert.equal(ofBrowser.get("key"), "second");
    ofBrowser.set("old", null);
    assert.equal(ofBrowser.get("old"), null);
    isFull = false;
    ofBrowser.set("key", null);
    assert.equal(ofBrowser.get("key"), null);
  }
  delete globalThis.localStorage;
  assert.equal(ofBrowser.get("key"), null);
});
