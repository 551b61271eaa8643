/**
 * The ladder is loaded when the first transport has failed, over the network that has just failed: it may come late, or
 * never. Here it comes when a test says so.
 */

import assert from "node:assert/strict";
import { register } from "node:module";
import { after, mock, test } from "node:test";
import { MessageChannel } from "node:worker_threads";

const { port1: gate, port2: port } = new MessageChannel();
const hooks = `
  let opened;
  export const initialize = ({ port }) => void (opened = new Promise((resolve) => port.once("message", resolve)));
  export async function load(url, context, next) {
    if (url.endsWith("/ladder.js")) await opened;
    return next(url, context);
  }
`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`, { data: { port }, transferList: [port] });
after(() => gate.close());
gate.ref(); // else the program ends while it waits for the gate

const { connect } = await import("../src/fanline.js");

class FakeSocket {
  readyState = 1;
  send() {}
  close() {}
  fails() {
    this.onclose({ code: 1006, reason: "" });
  }
  opens() {
    this.onopen();
    this.onmessage({ data: JSON.stringify({ op: "welcome", epoch: "e", offset: 0, ts: Date.now(), heartbeat_ms: 60_000 }) });
  }
}

/** A client with its own sockets; its requests over HTTP fail, and are kept by their paths. */
function start() {
  const [sockets, requests, transports] = [[], [], []];
  class WebSocket extends FakeSocket {
    constructor() {
      super();
      sockets.push(this);
    }
  }
  const fetch = async ({ pathname }) => {
    requests.push(pathname);
    throw new Error("no network");
  };
  const client = connect("http://host/v1/ws", { WebSocket, fetch, random: () => 0.5, backoff_ms: 100, clock: () => now });
  client.on("state", ({ state, transport }) => state === "connecting" && transports.push(transport));
  return { client, sockets, requests, transports };
}

/** Lets everything happen that waits for no timer; modules come from another thread, and one may wait for another. */
async function settled() {
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
    await import(`data:text/javascript,${imports++}`);
  }
}

let imports = 0;

let now = 1_000_000;

async function pass(ms) {
  for (let left = ms; left > 0; left -= 500) {
    now += 500;
    mock.timers.tick(500);
    await settled();
  }
}

test("what failed before the ladder was there is put down to the transport that failed", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const mute = start();
  await pass(3500);
  const [works, opens, fails] = [start(), start(), start()];
  await settled();
  for (let failure = 1; failure <= 2; failure++) {
    for (const { sockets } of [works, opens, fails]) sockets.at(-1).fails();
    await pass(1000);
  }
  for (const { sockets } of [works, opens, fails]) assert.equal(sockets.length, 3, "nobody waits for the ladder");
  works.sockets[2].opens();
  assert.deepEqual([mute.client.state, mute.sockets.length], ["connecting", 2]);

  gate.postMessage("open");
  await import("../src/ladder.js");
  await settled();
  opens.sockets[2].opens();
  fails.sockets[2].fails();
  await settled();

  for (const { client, sockets, requests } of [works, opens]) {
    assert.deepEqual([client.state, client.transport], ["open", "websocket"]);
    sockets[2].fails();
    await pass(1000);
    assert.deepEqual([client.transport, sockets.length, requests], ["websocket", 4, []], "one short life is no reason to leave a transport");
  }
  assert.deepEqual(mute.transports.slice(0, 2), ["websocket", "sse"], "the attempt that was under way is not waited for");
  assert.deepEqual(fails.transports.slice(0, 3), ["websocket", "websocket", "sse"]);
  for (const { client } of [works, opens, fails, mute]) client.close();
});
