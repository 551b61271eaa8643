/** The promises of the client without a browser, a server or a clock. */

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { AskError, checkPattern, connect, matches } from "../src/fanline.js";
import "../src/watch.js"; // loaded already, it is there as soon as a connection has come or failed

const EPOCH = "00000000000000aa";
let now;
let sockets;

/** The far end of a connection: the test is the server. */
class FakeSocket {
  readyState = 1;
  sent = [];
  constructor(url) {
    this.url = url;
    sockets.push(this);
    queueMicrotask(() => this.onopen?.());
  }
  send(text) {
    const command = JSON.parse(text);
    if (command.op !== "ping") this.sent.push(command);
  }
  close() {
    this.readyState = 3;
  }
  says(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
  welcomes(offset = 10, epoch = EPOCH) {
    this.says({ op: "welcome", protocol: "fanline.v1", epoch, offset, ts: now, heartbeat_ms: 5000 });
  }
  answers(offset = 10) {
    const { id, topics } = this.sent.at(-1);
    this.says({ op: "subscribed", id, topics, offset });
  }
  frame(topic, offset, data = offset) {
    this.says({ topic, offset, ts: now, data });
  }
  breaks() {
    this.onclose({ code: 1006, reason: "" });
  }
}

beforeEach(() => {
  now = 1_000_000;
  sockets = [];
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
});

/** Lets everything happen that waits for no timer. */
async function settled() {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}

async function pass(ms) {
  for (let left = ms; left > 0; left -= 500) {
    now += Math.min(left, 500);
    mock.timers.tick(Math.min(left, 500));
    await settled();
  }
}

async function open(topics = [">"], options = {}) {
  const own = { WebSocket: FakeSocket, clock: () => now, random: () => 0.5, transports: ["websocket"] };
  const client = connect("http://host/v1/ws", { ...own, ...options });
  const got = [];
  const events = [];
  const names = ["state", "stale", "live", "gap", "refused", "skipped", "error", "goodbye"];
  for (const name of names) client.on(name, (e) => events.push(e));
  const subscription = client.subscribe(topics, (frame, live) => got.push([frame.topic, frame.offset, live]));
  await settled();
  return { client, got, events, subscription };
}

test("patterns match as in the server", async () => {
  for (const [pattern, topic, expected] of [
    ["ticker.BTC-USD", "ticker.BTC-USD", true],
    ["ticker.BTC-USD", "ticker.BTC-USDT", false],
    ["ticker.*", "ticker.BTC-USD", true],
    ["ticker.*", "ticker", false],
    ["ticker.*", "ticker.a.b", false],
    ["*.BTC-USD", "trade.BTC-USD", true],
    ["*", "btcusdt@trade", true],
    ["*", "a.b", false],
    ["btc*@trade", "btcusdt@trade", true],
    ["btc*@trade", "btc@trade", true],
    ["*usdt@*", "ethusdt@depth", true],
    ["*usdt@*", "ethbtc@depth", false],
    ["a*b*c", "axxbyybzzc", true],
    ["a*b*c", "axxbyybzz", false],
    [">", "a", true],
    [">", "a.b.c", true],
    ["a.>", "a.b.c", true],
    ["a.>", "a", false],
    ["a.*.>", "a.b", false],
    ["a.*.>", "a.b.c", true],
  ]) {
    assert.equal(checkPattern(pattern), null, pattern);
    assert.equal(matches(pattern, topic), expected, `${pattern} on ${topic}`);
  }
});

test("wrong patterns are refused with the reason", async () => {
  for (const [text, part] of [
    ["", "empty"],
    ["a..b", "empty token"],
    [".a", "empty token"],
    ["a b", "white space"],
    ["a,b", "comma"],
    ["a.>.b", "last token"],
    ["a.b>", "last token"],
    [">>", "last token"],
    ["x".repeat(257), "257"],
    ["é".repeat(129), "258"],
  ]) {
    assert.match(checkPattern(text) ?? "accepted", new RegExp(part), text);
  }
  await assert.rejects(open(["a", "b c"]), /white space/);
  await settled();
});

test("current values come first, then the live stream, each frame once", async () => {
  const { client, got } = await open(["a.*"]);
  const [socket] = sockets;
  assert.equal(socket.url, "ws://host/v1/ws");
  socket.welcomes();
  assert.deepEqual(socket.sent, [{ op: "subscribe", id: 1, topics: ["a.*"] }]);
  socket.answers();
  socket.frame("a.x", 7);
  socket.frame("a.x", 7);
  socket.frame("a.x", 11);
  socket.frame("b.x", 12);
  assert.deepEqual(got, [["a.x", 7, false], ["a.x", 11, true]]);
  assert.equal(client.messages, 4);
  assert.ok(client.bytes > 200);
  assert.equal(client.state, "open");
});

test("after a loss it resumes with all patterns from the greatest offset", async () => {
  const { client, got } = await open(["a", "b"]);
  sockets[0].welcomes();
  sockets[0].answers();
  sockets[0].frame("a", 9);
  sockets[0].frame("b", 10);
  sockets[0].frame("a", 12);
  sockets[0].says({ op: "heartbeat", offset: 15, ts: now });
  sockets[0].breaks();
  assert.equal(client.isCurrent("a"), false);
  await pass(250);
  sockets[1].welcomes(20);
  const [{ topics, since }, ...others] = sockets[1].sent;
  assert.deepEqual([topics, since, others], [["a", "b"], `${EPOCH}:15`, []]);
  sockets[1].answers(20);
  sockets[1].frame("a", 17);
  assert.equal(client.isCurrent("a"), false, "more may be missing");
  sockets[1].frame("b", 20);
  assert.deepEqual([client.isCurrent("a"), client.isCurrent("b")], [true, true]);
  assert.deepEqual(got.slice(3), [["a", 17, false], ["b", 20, false]]);
});

test("patterns added while disconnected get their current values", async () => {
  const { client } = await open(["a"]);
  sockets[0].welcomes();
  sockets[0].answers();
  sockets[0].frame("a", 10);
  sockets[0].breaks();
  client.subscribe("b", () => {});
  await pass(250);
  sockets[1].welcomes();
  assert.deepEqual(sockets[1].sent.map(({ topics, since }) => [topics, since]), [
    [["a"], `${EPOCH}:10`],
    [["b"], undefined],
  ]);
});

test("a loss among the current values starts over, since the cursor would hide the rest", async () => {
  await open(["a", "b"]);
  sockets[0].welcomes();
  sockets[0].answers();
  sockets[0].frame("a", 5);
  sockets[0].breaks();
  await pass(250);
  sockets[1].welcomes();
  assert.equal(sockets[1].sent[0].since, undefined);
});

test("a loss among the current values of a later pattern starts over too", async () => {
  const { client } = await open(["a"]);
  sockets[0].welcomes();
  sockets[0].answers();
  sockets[0].frame("a", 10);
  client.subscribe("b.*", () => {});
  sockets[0].answers(12);
  sockets[0].frame("b.x", 3);
  sockets[0].frame("a", 12);
  sockets[0].breaks();
  await pass(250);
  sockets[1].welcomes(12);
  assert.deepEqual([sockets[1].sent[0].topics, sockets[1].sent[0].since], [["a", "b.*"], undefined]);
});

test("pace and policy are part of the address", async () => {
  await open(["a"], { every_ms: 250, policy: "lossless" });
  assert.equal(sockets[0].url, "ws://host/v1/ws?policy=lossless&every=250ms");
});

test("a refused cursor starts over and says what was skipped", async () => {
  const { events, got } = await open(["a"]);
  sockets[0].welcomes();
  sockets[0].answers();
  sockets[0].frame("a", 10);
  sockets[0].breaks();
  await pass(250);
  sockets[1].welcomes(30);
  sockets[1].says({ op: "error", id: sockets[1].sent[0].id, code: "bad_cursor", message: "…" });
  assert.deepEqual(events.at(-1), { op: "skipped", from: 11, to: 30, reason: "bad_cursor" });
  assert.equal(sockets[1].sent[1].since, undefined);
  sockets[1].answers(30);
  sockets[1].frame("a", 29);
  assert.deepEqual(got.at(-1), ["a", 29, false]);
});

test("a restarted server's lower offsets are taken, and old values are not current", async () => {
  const { client, got, events } = await open(["a", "b"]);
  sockets[0].welcomes();
  sockets[0].answers();
  sockets[0].frame("a", 100);
  sockets[0].frame("b", 101);
  sockets[0].breaks();
  await pass(250);
  sockets[1].welcomes(3, "00000000000000bb");
  assert.equal(sockets[1].sent[0].since, `${EPOCH}:101`);
  sockets[1].answers(3);
  sockets[1].says({ op: "skipped", from: 0, to: 3, reason: "epoch" });
  sockets[1].frame("a", 2);
  assert.deepEqual([client.isCurrent("a"), client.isCurrent("b")], [true, false]);
  assert.deepEqual(got.at(-1), ["a", 2, false]);
  assert.equal(events.at(-1).reason, "epoch");
});

test("a goodbye's delay is kept, whatever wakes the page", async () => {
  const { client, events } = await open();
  sockets[0].welcomes();
  sockets[0].says({ op: "goodbye", code: "draining", message: "stopping", reconnect_ms: 4000 });
  sockets[0].onclose({ code: 1001, reason: "" });
  assert.deepEqual(events.at(-1), { state: "waiting", reason: "stopping", retry_ms: 4000, transport: "websocket" });
  await pass(3500);
  assert.equal(sockets.length, 1);
  await pass(500);
  assert.equal(sockets.length, 2);
  assert.equal(client.state, "connecting");
});

test("a session whose access was withdrawn or whose place was taken does not come back", async () => {
  for (const code of [4503, 4509]) {
    const { client, events } = await open();
    sockets.at(-1).welcomes();
    sockets.at(-1).onclose({ code, reason: "why" });
    const before = sockets.length;
    await pass(60_000);
    assert.equal(sockets.length, before);
    assert.equal(client.state, "closed");
    assert.deepEqual(events.at(-1), { state: "closed", reason: "why", retry_ms: 0, transport: "websocket" });
  }
});

test("a token that is refused three times in a row ends it, one that expires does not", async () => {
  const { client } = await open([">"], { backoff_ms: 100, backoff_max_ms: 100 });
  for (let i = 0; i < 5; i++) {
    sockets.at(-1).welcomes();
    await pass(6000);
    sockets.at(-1).onclose({ code: 4401, reason: "expired" });
    await pass(500);
  }
  assert.equal(client.state, "connecting");
  for (let i = 0; i < 3; i++) {
    assert.notEqual(client.state, "closed");
    sockets.at(-1).onclose({ code: 4401, reason: "no valid token" });
    await pass(500);
  }
  assert.equal(client.state, "closed");
});

test("delays double up to their bound, and are random below it", async () => {
  const { events } = await open([">"], { backoff_ms: 100, backoff_max_ms: 700 });
  const delays = [];
  for (let i = 0; i < 5; i++) {
    sockets.at(-1).breaks();
    delays.push(events.at(-1).retry_ms);
    await pass(1000);
  }
  assert.deepEqual(delays, [50, 100, 200, 350, 350]);
});

test("a connection on which nothing arrives for two heartbeats is given up", async () => {
  const { client } = await open();
  sockets[0].welcomes();
  await pass(9500);
  assert.equal(client.state, "open");
  await pass(1000);
  assert.equal(client.state, "waiting");
  assert.equal(sockets[0].readyState, 3);
});

test("a server that never says welcome is given up", async () => {
  const { client } = await open();
  await pass(12_000);
  assert.ok(sockets.length > 1 || client.state === "waiting");
});

test("a machine that slept asks before it gives up", async () => {
  const { client } = await open();
  sockets[0].welcomes();
  await settled();
  now += 3_600_000;
  mock.timers.tick(1000);
  assert.equal(client.state, "open");
  await pass(4500);
  assert.equal(client.state, "open");
  await pass(1000);
  assert.equal(client.state, "waiting");
});

test("a page that was busy reads what waits before it gives up", async () => {
  const { client, got } = await open();
  sockets[0].welcomes();
  sockets[0].answers();
  await pass(9_500); // nothing for nearly two heartbeats
  now += 1_500; // nor did the page run; what came meanwhile waits behind its timers
  mock.timers.tick(1_000);
  sockets[0].frame("a", 11);
  await pass(6_000);
  assert.deepEqual([got.length, client.state, sockets.length], [1, "open", 1]);
  await pass(4_500);
  assert.equal(client.state, "waiting");
});

test("stale topics are not current until they are live again", async () => {
  const { client } = await open();
  const [socket] = sockets;
  socket.welcomes();
  socket.answers(2);
  socket.frame("a.x", 1);
  socket.frame("b.x", 2);
  const current = () => [client.isCurrent("a.x"), client.isCurrent("b.x")];
  assert.deepEqual(current(), [true, true]);
  socket.says({ op: "stale", topics: ["a.*"], reason: "upstream_silent", message: "", since_ms: 1, ts: 1 });
  assert.deepEqual(current(), [false, true]);
  socket.says({ op: "stale", topics: [">"], reason: "upstream_down", message: "", since_ms: 1, ts: 1 });
  assert.deepEqual(current(), [false, false]);
  socket.says({ op: "live", topics: ["b.x"], ts: 1 });
  assert.deepEqual(current(), [false, true]);
  socket.says({ op: "live", topics: [">"], ts: 1 });
  assert.deepEqual(current(), [true, true]);
  assert.equal(client.isCurrent("c"), false, "never seen");
});

test("a topic's own staleness ends with its next frame, not with the feed's, and outlives a lost connection", async () => {
  const { client, events } = await open();
  sockets[0].welcomes();
  sockets[0].answers(2);
  sockets[0].frame("a", 1);
  sockets[0].frame("b", 2);
  const about = { reason: "topic_silent", message: "", since_ms: 1, ts: 1 };
  sockets[0].says({ op: "stale", topics: ["a"], offset: 3, ...about });
  sockets[0].says({ op: "refused", topic: "b", message: "unknown symbol", offset: 4, ts: 1 });
  sockets[0].says({ op: "live", topics: [">"], ts: 1 });
  const stale = () => [client.isStale("a"), client.isStale("b")];
  assert.deepEqual(stale(), [true, true]);
  assert.deepEqual(events.slice(-3).map(({ op, offset }) => [op, offset]), [["stale", 3], ["refused", 4], ["live", undefined]]);
  sockets[0].breaks();
  await pass(250);
  sockets[1].welcomes();
  assert.equal(sockets[1].sent[0].since, `${EPOCH}:4`, "notes have their place in the stream");
  sockets[1].answers(4);
  assert.deepEqual(stale(), [true, true]);
  sockets[1].frame("a", 5);
  sockets[1].says({ op: "live", topics: ["b"], offset: 6, ts: 1 });
  assert.deepEqual(stale(), [false, false]);
  sockets[1].says({ op: "stale", topics: ["a"], offset: 7, ...about });
  sockets[1].says({ op: "gap", topic: "a", offset: 8, ts: 1, reason: "overflow" });
  assert.deepEqual(stale(), [false, false], "frames have come, though they are not sent");
  assert.equal(events.at(-1).op, "gap");
});

test("what is said of a topic that never came has no place in the stream, and ends with its first frame", async () => {
  const { client } = await open();
  const [socket] = sockets;
  socket.welcomes();
  socket.answers(2);
  socket.says({ op: "stale", topics: ["a"], reason: "nothing_yet", message: "", since_ms: 1, ts: 1 });
  socket.says({ op: "refused", topic: "b", message: "unknown symbol", ts: 1 });
  const stale = () => [client.isStale("a"), client.isStale("b"), client.isStale("c")];
  assert.deepEqual(stale(), [true, true, false]);
  socket.frame("a", 3);
  socket.frame("b", 4);
  assert.deepEqual(stale(), [false, false, false]);
});

test("who subscribes late gets the snapshot and the deltas since, or nothing before the next snapshot", async () => {
  const { client } = await open();
  const [socket] = sockets;
  const says = (offset, kind) => socket.says({ topic: "a", offset, ts: 1, kind, data: offset });
  const late = () => {
    const got = [];
    client.subscribe("a", (frame) => got.push([frame.offset, frame.kind])).unsubscribe();
    return got;
  };
  socket.welcomes();
  socket.answers();
  says(1, "delta");
  assert.deepEqual(late(), []);
  says(2, "snapshot");
  says(3, "delta");
  says(4, "delta");
  assert.deepEqual(late(), [[2, "snapshot"], [3, "delta"], [4, "delta"]]);
  says(5, "snapshot");
  assert.deepEqual(late(), [[5, "snapshot"]]);
  for (let offset = 6; offset < 2000; offset += 1) says(offset, "delta");
  assert.deepEqual(late(), [], "too many to be kept");
  says(2000, "snapshot");
  assert.equal(late().length, 1);
  socket.says({ op: "gap", topic: "a", offset: 2001, ts: 1, reason: "overflow" });
  assert.deepEqual(late(), []);
});

test("a pattern is given back when its last user leaves; a late user gets what is known", async () => {
  const { client, subscription } = await open(["a", "b"]);
  const [socket] = sockets;
  socket.welcomes();
  socket.answers();
  socket.frame("a", 10);
  const late = [];
  const second = client.subscribe(["a"], (frame, live) => late.push([frame.offset, live]));
  assert.deepEqual(late, [[10, false]]);
  assert.equal(socket.sent.length, 1, "the pattern was in force already");
  subscription.unsubscribe();
  subscription.unsubscribe();
  await settled();
  assert.deepEqual(socket.sent.at(-1).topics, ["b"]);
  second.unsubscribe();
  await settled();
  assert.deepEqual(socket.sent.at(-1).topics, ["a"]);
  assert.deepEqual(client.topics, []);
});

test("a subscription that a handler ends while others are told stays ended", async () => {
  const { client, subscription } = await open(["a"]);
  sockets[0].welcomes();
  sockets[0].answers(2);
  const other = client.subscribe("a", () => {});
  await settled();
  const states = [];
  client.on("subscription", (event) => {
    states.push([event.subscription === other ? "other" : "first", event.state]);
    if (event.subscription === subscription) other.unsubscribe();
  });
  sockets[0].says({ op: "refused", topic: "a", message: "unknown symbol", offset: 3, ts: 1 });
  assert.deepEqual(states, [["first", "refused"], ["other", "ended"]]);
  assert.equal(other.state, "ended");
});

test("latency is measured on the server's clock", async () => {
  const { client } = await open();
  const [socket] = sockets;
  const pings = [];
  socket.send = (text) => pings.push(JSON.parse(text));
  socket.says({ op: "welcome", epoch: EPOCH, offset: 0, ts: now - 500, heartbeat_ms: 5000 });
  assert.equal(client.clockOffset, 500);
  await settled();
  now += 20;
  socket.says({ op: "pong", id: pings.at(-1).id, ts: now - 510 });
  assert.deepEqual([client.clockOffset, client.roundTrip], [500, 20]);
  assert.equal(client.latency({ ts: now - 503 }), 3);
  socket.frame("a", 1);
  assert.equal(client.clockOffset, 0, "no message comes from the future");
});

test("what arrives late is not current, whatever the connection says, until it is in time again", async () => {
  const { client, events } = await open();
  const [socket] = sockets;
  client.on("late", (event) => events.push(event));
  const late = () => [client.isCurrent("a"), client.isLate, client.lateness];
  socket.welcomes();
  socket.answers(3);
  socket.frame("a", 3);
  assert.deepEqual(late(), [true, false, 0]);
  // The page was too busy for 2.5 s: what it reads now was said before.
  now += 2500;
  socket.says({ topic: "a", offset: 4, ts: now - 2500, data: 4 });
  assert.deepEqual(late(), [false, true, 2500]);
  assert.deepEqual(events.at(-1), { late: true, age_ms: 2500 });
  socket.says({ topic: "a", offset: 5, ts: now - 1200, data: 5 });
  assert.deepEqual(late(), [false, true, 1200], "catching up");
  socket.says({ topic: "a", offset: 6, ts: now - 100, data: 6 });
  assert.deepEqual(late(), [true, false, 100]);
  assert.deepEqual(events.at(-1), { late: false, age_ms: 100 });
});

test("an old value that a newcomer gets, and a pace that was asked for, are not late", async () => {
  const { client } = await open([">"], { every_ms: 5000 });
  const [socket] = sockets;
  socket.welcomes();
  socket.answers(3);
  socket.says({ topic: "a", offset: 3, ts: now - 3_600_000, data: 3 });
  assert.equal(client.isCurrent("a"), true);
  socket.says({ topic: "a", offset: 4, ts: now - 4900, data: 4 });
  assert.equal(client.isLate, false);
  socket.says({ topic: "a", offset: 5, ts: now - 6100, data: 5 });
  assert.equal(client.isLate, true);
});

test("a page that was frozen shows nothing as current before it has heard the server again", async () => {
  const { client } = await open();
  const [socket] = sockets;
  socket.welcomes();
  socket.answers(3);
  socket.frame("a", 3);
  await settled();
  now += 30_000; // no timer has run, no message was read
  assert.deepEqual([client.isCurrent("a"), client.isLate, client.age], [false, true, 30_000]);
  socket.says({ topic: "a", offset: 4, ts: now - 29_000, data: 4 });
  assert.equal(client.isCurrent("a"), false, "a message that has waited for the page");
  socket.frame("a", 5);
  assert.equal(client.isCurrent("a"), true);
});

test("a server that is silent is asked after 2 s, and nothing is current after 4 s without an answer", async () => {
  const { client } = await open();
  const [socket] = sockets;
  const pings = [];
  socket.welcomes();
  socket.answers(3);
  socket.frame("a", 3);
  socket.send = (text) => pings.push(JSON.parse(text));
  await pass(3000);
  assert.ok(pings.length > 0);
  socket.says({ op: "pong", id: pings.at(-1).id, ts: now });
  await pass(3500);
  assert.equal(client.isCurrent("a"), true);
  await pass(1000);
  assert.deepEqual([client.isCurrent("a"), client.state], [false, "open"]);
});

test("a network that is said to be gone makes nothing current until something is heard", async () => {
  const listeners = new Map();
  globalThis.addEventListener = (name, fn) => listeners.set(name, fn);
  try {
    const { client, events } = await open();
    const [socket] = sockets;
    client.on("late", (event) => events.push(event));
    socket.welcomes();
    socket.answers(3);
    socket.frame("a", 3);
    await settled();
    listeners.get("offline")();
    assert.equal(client.isCurrent("a"), false);
    assert.equal(events.at(-1).late, true, "whoever paints is told");
    socket.frame("a", 4);
    assert.equal(client.isCurrent("a"), true, "the browser was wrong");
    listeners.get("offline")();
    await pass(5500);
    assert.equal(client.state, "waiting", "the probe was not answered");
  } finally {
    delete globalThis.addEventListener;
  }
});

test("a page that is always late does not come to think that the server's clock is", async () => {
  const { client } = await open();
  const [socket] = sockets;
  const pings = [];
  socket.send = (text) => pings.push(JSON.parse(text));
  socket.welcomes();
  await settled();
  const answer = (delay) => {
    const { id } = pings.at(-1);
    const ts = now;
    now += delay;
    socket.says({ op: "pong", id, ts });
  };
  answer(4);
  for (let minute = 0; minute < 10; minute++) {
    for (let i = 0; i < 12; i++) {
      await pass(1000);
      answer(3000);
      await pass(1000);
    }
  }
  assert.ok(Math.abs(client.clockOffset) < 5, `${client.clockOffset}`);
  assert.ok(client.isLate);
});

test("what the server says of its prices is known", async () => {
  const { client } = await open();
  sockets[0].welcomes();
  assert.equal(client.simulated, false);
  sockets[0].breaks();
  await pass(250);
  sockets[1].says({ op: "welcome", epoch: EPOCH, offset: 0, ts: now, heartbeat_ms: 5000, simulated: true });
  assert.equal(client.simulated, true);
});

test("a closed client stays closed", async () => {
  const { client } = await open();
  sockets[0].welcomes();
  client.close();
  await pass(60_000);
  assert.deepEqual([client.state, sockets.length], ["closed", 1]);
});

test("what is said to the feed is answered by id, in any order", async () => {
  const { client, events } = await open();
  await assert.rejects(client.send("chat.a", 1), { name: "AskError", code: "not_connected" });
  sockets[0].welcomes();
  sockets[0].answers();
  const [sent, answer, refused] = [client.send("chat.a", "hi"), client.request({ a: 1 }, 200), client.request({})];
  const [first, second, third] = sockets[0].sent.slice(-3);
  assert.deepEqual(first, { op: "send", id: first.id, topic: "chat.a", data: "hi" });
  assert.deepEqual(second, { op: "request", id: second.id, data: { a: 1 }, timeout_ms: 200 });
  assert.deepEqual(third, { op: "request", id: third.id, data: {} });
  sockets[0].says({ op: "error", id: third.id, code: "timeout", message: "late" });
  sockets[0].says({ op: "response", id: second.id, data: [1.5] });
  sockets[0].says({ op: "sent", id: first.id });
  assert.deepEqual([await sent, await answer], [undefined, [1.5]]);
  await assert.rejects(refused, new AskError("timeout", "late"));
  assert.ok(!events.some(({ code }) => code === "timeout"), "who asked is told, nobody else");
  client.close();
});

test("what is said to the feed fails with the connection and is not repeated", async () => {
  const { client } = await open();
  sockets[0].welcomes();
  const lost = client.send("chat.a", "hi");
  sockets[0].breaks();
  await assert.rejects(lost, { code: "connection_lost" });
  await pass(1000);
  sockets[1].welcomes();
  assert.ok(!sockets[1].sent.some(({ op }) => op === "send"));
  const closed = client.request({});
  client.close();
  await assert.rejects(closed, { code: "connection_lost" });
});

test("a delayed view says how late each topic is, and its messages are not late by that", async () => {
  const { client } = await open();
  const [socket] = sockets;
  socket.says({ op: "welcome", epoch: EPOCH, offset: 0, ts: now, heartbeat_ms: 5000, delay_ms: 900_000 });
  assert.deepEqual([client.delay, client.delayOf("a.x"), client.isDelayed("a.x")], [900_000, 900_000, true]);
  socket.answers(0);
  socket.says({ topic: "a.x", offset: 1, ts: now - 900_100, data: 1 });
  assert.deepEqual([client.isLate, client.isCurrent("a.x"), client.lateness], [false, true, 100]);

  socket.says({ op: "view", epoch: EPOCH, offset: 9, delay_ms: { "a.x": 0, "a.*": 60_000 }, ts: now });
  assert.deepEqual([client.delay, client.delayOf("a.x"), client.delayOf("a.y"), client.delayOf("c")], [60_000, 0, 60_000, 0]);
});

test("a client that is given another view continues behind what it has, or begins anew where the view is behind it", async () => {
  const { client, got } = await open();
  const [socket] = sockets;
  const views = [];
  client.on("view", ({ offset }) => views.push(offset));
  socket.welcomes(4);
  socket.answers(4);
  socket.frame("a.x", 5);
  assert.ok(client.isCurrent("a.x"));

  socket.says({ op: "view", epoch: EPOCH, offset: 2, delay_ms: 60_000, ts: now });
  assert.equal(client.latest("a.x"), undefined, "what was newer is not shown beside what is older");
  socket.says({ op: "subscribed", topics: [">"], offset: 2, delay_ms: 60_000 });
  socket.says({ op: "skipped", from: 0, to: 2, reason: "delayed" });
  socket.frame("a.x", 1);
  assert.equal(client.isCurrent("a.x"), true);
  socket.frame("a.x", 3);

  socket.says({ op: "view", epoch: EPOCH, offset: 6, ts: now });
  assert.deepEqual([client.isDelayed("a.x"), client.isCurrent("a.x")], [false, false]);
  socket.says({ op: "subscribed", topics: [">"], offset: 6 });
  socket.frame("a.x", 5);
  socket.frame("a.x", 6);
  assert.ok(client.isCurrent("a.x"));
  assert.deepEqual([views, got.map(([, offset]) => offset)], [[2, 6], [5, 1, 3, 5, 6]]);
  socket.breaks();
  await pass(2000);
  sockets[1].welcomes(7);
  assert.equal(sockets[1].sent.at(-1).since, `${EPOCH}:6`);
});
