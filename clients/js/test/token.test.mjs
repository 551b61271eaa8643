/** Tokens are asked for before they are needed: none that has ended is ever shown. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, Unauthorized } from "../src/fanline.js";
import "../src/watch.js"; // loaded already, it is there as soon as a connection has come or failed

const LIFE_MS = 600_000;

/** A client, a server that takes tokens, and the time. */
function stage(t, token) {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_000_000 });
  const window = new EventTarget();
  globalThis.addEventListener = window.addEventListener.bind(window);
  globalThis.removeEventListener = window.removeEventListener.bind(window);
  t.after(() => {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  });
  const shown = [];
  const sockets = [];
  class Socket {
    readyState = 1;
    constructor() {
      sockets.push(this);
      queueMicrotask(() => {
        this.onopen?.();
        this.says({ op: "welcome", epoch: "e", offset: 0, ts: Date.now(), heartbeat_ms: 15_000 });
      });
    }
    says(message) {
      this.onmessage?.({ data: JSON.stringify(message) });
    }
    send(text) {
      const command = JSON.parse(text);
      if (command.op === "ping") this.says({ op: "pong", id: command.id, ts: Date.now() });
      if (command.op !== "auth") return;
      shown.push({ token: command.token, at: Date.now() });
      this.says({ op: "authenticated", id: command.id, sub: "a", tier: "t", expires_ms: LIFE_MS });
    }
    close() {
      this.readyState = 3;
    }
  }
  const asked = [];
  const give = ({ reason }) => {
    asked.push(reason);
    return token(asked.length);
  };
  const client = connect("ws://host/v1/ws", { WebSocket: Socket, clock: Date.now, token: give, transports: ["websocket"] });
  return { client, window, shown, sockets, asked, pass: (ms) => pass(t, ms) };
}

async function settled() {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** What is imported when it is needed takes its time, which is not mocked. */
async function opened(client) {
  for (let i = 0; i < 100_000 && client.state !== "open"; i++) await settled();
  await settled();
}

async function pass(t, ms) {
  t.mock.timers.tick(ms);
  await settled();
}

test("20 wake-ups after the token has ended: each asks first, and no dead token is shown", async (t) => {
  const given = [];
  const { client, window, shown, asked, pass } = stage(t, (n) => {
    given.push({ token: `t${n}`, ends: Date.now() + LIFE_MS });
    return `t${n}`;
  });
  await opened(client);
  for (let i = 0; i < 20; i++) {
    window.dispatchEvent(new Event("pagehide"));
    t.mock.timers.setTime(Date.now() + 8 * LIFE_MS);
    window.dispatchEvent(new Event("pageshow"));
    await pass(1);
    await opened(client);
  }
  assert.equal(client.state, "open");
  assert.equal(shown.length, 21);
  assert.deepEqual(asked, ["first", ...Array(20).fill("expired")]);
  for (const { token, at } of shown) {
    const { ends } = given.find((it) => it.token === token);
    assert.ok(at < ends, `${token} was shown ${at - ends} ms after its end`);
  }
});

test("a token is renewed on the open connection when 80 % of its life is over, by one question", async (t) => {
  const { client, shown, sockets, asked, pass } = stage(t, (n) => `t${n}`);
  await opened(client);
  for (let i = 0; i < 60; i++) await pass(LIFE_MS / 80);
  assert.equal(shown.length, 1);
  for (let i = 0; i < 5; i++) await pass(LIFE_MS / 80);
  sockets[0].says({ op: "token_expiring", expires_ms: 1000, ts: Date.now() });
  sockets[0].says({ op: "token_expiring", expires_ms: 1000, ts: Date.now() });
  await settled();
  assert.deepEqual([shown.map(({ token }) => token), asked.length, sockets.length], [["t1", "t2", "t3"], 3, 1]);
  client.close();
});

test("a function that fails is asked again; one that says that nobody is logged in ends the client", async (t) => {
  const { client, asked, sockets, pass } = stage(t, (n) => {
    if (n < 3) throw new Error("the login server is away");
    throw new Unauthorized("logged out");
  });
  for (let i = 0; i < 10_000 && client.state !== "closed"; i++) await pass(1000);
  assert.deepEqual(await client.closed, { code: "unauthorized", reason: "logged out", terminal: true });
  assert.deepEqual([asked, sockets.length], [["first", "first", "first"], 0]);
});
