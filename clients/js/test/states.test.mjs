/** The table of states: the code's is the document's, and nothing leads a client anywhere else. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { connect, TRANSITIONS } from "../src/fanline.js";
import "../src/watch.js"; // loaded already, it is there as soon as a connection has come or failed

const EVENTS = ["welcome", "break", "refuse", "silence", "goodbye", "offline", "online", "pagehide", "pageshow", "reconnect", "close"];

test("docs/CLIENT.md has the table of the code", () => {
  const text = readFileSync(new URL("../../../docs/CLIENT.md", import.meta.url), "utf8");
  const [, table] = /\| from \| by \| to \|\n\|[-|]+\|\n((?:\|.*\n)+)/.exec(text);
  const documented = Object.fromEntries(Object.keys(TRANSITIONS).map((state) => [state, {}]));
  for (const row of table.trim().split("\n")) {
    const [, from, by, to] = row.split("|").map((cell) => [...cell.matchAll(/`(\w+)`/g)].map(([, name]) => name));
    for (const state of from) documented[state][by[0]] = to[0];
  }
  assert.deepEqual(documented, TRANSITIONS);
});

/** The same sequence for the same seed. */
function random(seed) {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

test("whatever happens, in any order: only transitions of the table, one socket at a time, and closed is for ever", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const seen = new Set();
  for (let seed = 1; seed <= 60; seed++) {
    const chance = random(seed);
    const window = new EventTarget();
    Object.assign(globalThis, {
      addEventListener: window.addEventListener.bind(window),
      removeEventListener: window.removeEventListener.bind(window),
    });
    let now = 0;
    const sockets = [];
    class Socket {
      readyState = 1;
      constructor() {
        sockets.push(this);
        queueMicrotask(() => this.onopen?.());
      }
      send() {}
      close() {
        this.readyState = 3;
      }
    }
    const options = { WebSocket: Socket, clock: () => now, random: chance, transports: ["websocket"] };
    const client = connect("ws://host/v1/ws", options);
    let state = client.state;
    client.on("state", (event) => {
      assert.ok(Object.values(TRANSITIONS[state]).includes(event.state), `seed ${seed}: from ${state} to ${event.state}`);
      seen.add(`${state} ${event.state}`);
      ({ state } = event);
    });
    client.subscribe(">", () => {});
    for (let step = 0; step < 30; step++) {
      for (let i = 0; i < 20; i++) await null;
      const socket = sockets.findLast(({ readyState }) => readyState === 1);
      assert.ok(sockets.filter(({ readyState }) => readyState === 1).length <= 1, `seed ${seed}: one socket at a time`);
      if (state === "closed") assert.equal(socket, undefined, `seed ${seed}: a closed client has no socket`);
      const event = EVENTS[Math.floor(chance() * EVENTS.length)];
      const says = (message) => socket?.onmessage?.({ data: JSON.stringify(message) });
      if (event === "welcome") says({ op: "welcome", epoch: "e", offset: 1, ts: now, heartbeat_ms: 5000 });
      else if (event === "goodbye") says({ op: "goodbye", code: "draining", message: "", reconnect_ms: 3000 });
      else if (event === "break" || event === "refuse") {
        if (socket) socket.readyState = 3;
        socket?.onclose?.({ code: event === "break" ? 1006 : 4401, reason: "" });
      } else if (event === "silence") {
        now += 4000;
        t.mock.timers.tick(4000);
      } else if (event === "reconnect") client.reconnect();
      else if (event === "close" && chance() < 0.2) client.close();
      else window.dispatchEvent(new Event(event));
      assert.equal(client.state, state);
    }
    client.close();
    assert.equal((await client.closed).code !== undefined, true);
  }
  delete globalThis.addEventListener;
  delete globalThis.removeEventListener;
  for (const step of ["connecting open", "open waiting", "connecting waiting", "waiting connecting", "waiting closed", "open closed"]) {
    assert.ok(seen.has(step), `${step} was never tried`);
  }
});
