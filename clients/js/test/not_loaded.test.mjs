/**
 * What is loaded when it is needed may not be there: the network is gone, or the server has another version by now. The client
 * does without it, says so, and tries again.
 */

import assert from "node:assert/strict";
import { register } from "node:module";
import { after, mock, test } from "node:test";
import { MessageChannel } from "node:worker_threads";

const { port1: gate, port2: port } = new MessageChannel();
const hooks = `
  let isThere = false;
  export const initialize = ({ port }) => void port.on("message", (it) => port.postMessage((isThere = it)));
  export const resolve = (specifier, context, next) =>
    next(specifier === "./watch.js" && !isThere ? "./no_such_module.js" : specifier, context);
`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`, { data: { port }, transferList: [port] });
after(() => gate.close());

const { connect } = await import("../src/fanline.js");

const HEARTBEAT_MS = 5_000;
let now = 1_000_000;

/** Lets everything happen that waits for no timer; modules come from another thread. */
async function settled() {
  await import(`data:text/javascript,${imports++}`);
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}

let imports = 0;

async function pass(ms) {
  for (let left = ms; left > 0; left -= 500) {
    now += 500;
    mock.timers.tick(500);
    await settled();
  }
}

test("without what watches over connections frames come, silence is noticed, and it is asked for again", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const sockets = [];
  class WebSocket {
    readyState = 1;
    sent = [];
    constructor() {
      sockets.push(this);
      queueMicrotask(() => this.onopen?.());
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {
      this.readyState = 3;
    }
    says(message) {
      this.onmessage?.({ data: JSON.stringify({ ts: now, ...message }) });
    }
    greets() {
      this.says({ op: "welcome", epoch: "e", offset: 1, heartbeat_ms: HEARTBEAT_MS });
      this.says({ op: "subscribed", id: this.sent[0].id, topics: ["a"], offset: 1 });
    }
  }
  const [errors, got] = [[], []];
  const client = connect("http://host/v1/ws", { WebSocket, random: () => 0.5, clock: () => now });
  client.on("error", (error) => errors.push(error));
  client.subscribe("a", ({ offset }) => got.push(offset));
  await settled();
  sockets[0].greets();
  sockets[0].says({ topic: "a", offset: 1, data: 1 });
  await settled();
  assert.deepEqual([got, client.state, client.isCurrent("a")], [[1], "open", true]);
  assert.equal(errors.length, 1);
  assert.equal(errors[0].code, "not_loaded");
  assert.match(errors[0].message, /no_such_module/);

  await pass(2 * HEARTBEAT_MS - 500);
  assert.deepEqual([client.state, sockets.length], ["open", 1]);
  await pass(1_000);
  assert.equal(sockets[0].readyState, 3, "a connection on which nothing arrives is given up");
  assert.equal(errors.length, 2);

  const isThere = new Promise((resolve) => gate.once("message", resolve));
  gate.postMessage(true);
  await isThere;
  await pass(500);
  sockets[1].greets();
  await settled();
  assert.equal(sockets[1].sent[0].since, "e:1");
  assert.equal(errors.length, 2, "now it is there");
  const pings = () => sockets[1].sent.filter(({ op }) => op === "ping").length;
  for (let i = 0; i < 100 && !pings(); i++) await settled(); // it consists of several modules
  assert.equal(pings(), 1);
  await pass(3_000);
  assert.ok(pings() > 1, "a server that is silent is asked");
  client.close();
});

test("a client that may use one transport only, and cannot have it, says why it waits", async () => {
  const reasons = [];
  gate.postMessage(false);
  await new Promise((resolve) => gate.once("message", resolve));
  const client = connect("http://host/v1/ws", { transports: ["sse"], clock: () => now });
  client.on("state", ({ state, reason }) => state === "waiting" && reasons.push(reason));
  await settled();
  await settled();
  assert.match(reasons[0], /the transport sse cannot be loaded/);
  client.close();
});
