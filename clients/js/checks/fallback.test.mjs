/**
 * Behind a proxy that spoils the better transports a client has its data by the first one that works, and is back on
 * WebSocket soon after the way is free; it has every offset once, or is told which it lacks.
 *
 * Real nginx, the real server, the client in Node, in Chromium, and that for Python if `tests/setup` has found one.
 * SERVER_BINARY names a built fanline, CHROMIUM the browser. With FALLBACK_LONG=1 everything is as in use: the client's own times, ways that are closed for two minutes.
 */

import assert from "node:assert/strict";
import { fork, spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { launch, serve, skip as lack, until } from "./kit.mjs";
import { lacksNginx, startHole, startProxy } from "./proxy.mjs";

const skip = lack || lacksNginx;
const IS_LONG = process.env.FALLBACK_LONG === "1";
/** Documented options that make time short. */
const OPTIONS = IS_LONG ? {} : { reprobe_ms: 1_000, backoff_ms: 100 };
const CLOSED_MS = IS_LONG ? 120_000 : 0;
/** How often the proxy that drops streams does so; a connection counts as one that lasted after 5 s. */
const DROP_MS = IS_LONG ? 3_000 : 700;
const LOOK_MS = 20;
/** So many frames of a transport show that it works. */
const FRAMES = 5;
/** The promises, which are measured in the long form alone. */
const FALL_MS_MAX = 10_000;
const RETURN_MS_MAX = 60_000;

/**
 * What a proxy does as long as the way is closed, by kind of request; the transport that works then, how often each one
 * above it is tried before, at least, and which of these stay mute.
 */
const ROWS = [
  { name: "refuses", does: "answers upgrades with 403", upgrade: () => "return 403;", rung: "sse", tries: { websocket: 2 } },
  { name: "answers", does: "answers upgrades with a page", upgrade: () => 'return 200 "<h1>Welcome</h1>";', rung: "sse", tries: { websocket: 2 } },
  {
    ...{ name: "buffers", does: "knows no upgrades and buffers answers", rung: "longpoll", tries: { websocket: 2, sse: 1 }, mute: ["sse"] },
    upgrade: () => "proxy_http_version 1.1; proxy_pass http://fanline/v1/;",
    plain: () => `proxy_http_version 1.1; proxy_buffering on; proxy_ignore_headers X-Accel-Buffering; proxy_buffer_size 256k;
      proxy_buffers 4 256k; proxy_busy_buffers_size 512k; proxy_pass http://fanline/v1/;`,
  },
  {
    ...{ name: "holds", does: "holds upgrades and streams back", rung: "longpoll", tries: { websocket: 1, sse: 1 }, mute: ["websocket", "sse"] },
    upgrade: (hole) => `proxy_pass http://${hole};`,
    plain: (hole) => `if ($uri ~ sse$) { proxy_pass http://${hole}; } proxy_http_version 1.1; proxy_pass http://fanline/v1/;`,
  },
  {
    ...{ name: "cuts", does: "cuts WebSockets at once", rung: "sse", tries: { websocket: 2 } },
    upgrade: () => `proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
      proxy_read_timeout 50ms; proxy_pass http://fanline/v1/;`,
  },
];

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
/** Pythons that have what the client needs. */
const FOLDER = join(process.env.CARGO_TARGET_DIR ?? here("../../../target"), "python");
const VERSIONS = existsSync(FOLDER) ? readdirSync(FOLDER) : [];
const PYTHON = VERSIONS.map((version) => join(FOLDER, version, "bin/python")).find(existsSync);

let server;
let hole;
let proxy;
let node;
let python;
let browser;

before(async () => {
  if (skip) return;
  node = fork(here("fallback_client.mjs"), {
    execArgv: globalThis.WebSocket ? [] : ["--experimental-websocket", "--no-warnings"],
  });
  [server, hole, browser] = await Promise.all([serve("--simulate-rate", "10"), startHole(), launch()]);
  const ways = ROWS.map(({ name, upgrade, plain }) => ({ name, upgrade: upgrade?.(hole.host), plain: plain?.(hole.host) }));
  proxy = await startProxy(server.url, Object.keys(RUNTIMES).flatMap((runtime) => ways.map((it) => ({ ...it, name: `${it.name}-${runtime}` }))));
});

after(async () => {
  node?.kill();
  python?.kill();
  await browser?.close();
  await proxy?.stop();
  hole?.stop();
  server?.stop();
});

/** Starts a client in Node; `events` grows. */
async function inNode(url, events) {
  node.send({ name: url, url, options: OPTIONS });
  node.on("message", ({ name, event }) => name === url && events.push(event));
}

/** Starts a client for Python; the first starts the program. */
async function inPython(url, events) {
  if (!python) {
    const env = { ...process.env, PYTHONPATH: here("../../python/src") };
    python = spawn(PYTHON, [here("fallback_client.py")], { env, stdio: ["pipe", "pipe", "inherit"] });
    createInterface(python.stdout).on("line", (line) => python.emit("told", JSON.parse(line)));
  }
  python.on("told", ({ name, event }) => name === url && events.push(event));
  python.stdin.write(`${JSON.stringify({ name: url, url, options: OPTIONS })}\n`);
}

/** Starts a client in Chromium, in a page that the proxy serves. */
async function inChromium(url, events) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.exposeFunction("tell", (event) => void events.push(event));
  await page.goto(`${url}/client`);
  const begin = async ([url, options]) => {
    const { follow } = await import(`${url}/client/checks/fallback_client.mjs`);
    follow(url, options, globalThis.tell);
  };
  await page.evaluate(begin, [url, OPTIONS]);
}

/** Each offset from the first live frame on is there, in order, and once; or `skipped` has named it. */
function assertDense(events) {
  const seen = new Set();
  let next = Infinity;
  for (const { op, offset, live, from, to } of events) {
    if (op === "skipped" && next < Infinity) {
      assert.ok(from <= next, `expected \`skipped\` from ${next} at the latest, found ${from}`);
      next = Math.max(next, to + 1);
    }
    if (offset === undefined || op === "skipped") continue;
    if (op === "frame") assert.ok(!seen.has(offset), `expected each offset once, found ${offset} again`);
    seen.add(offset);
    if (next === Infinity && live) next = offset;
    assert.ok(!(offset > next), `expected offset ${next}, found ${offset}`);
    if (offset === next) next += 1;
  }
  assert.ok(next < Infinity, "expected a live frame");
}

const RUNTIMES = { Node: inNode, Chromium: inChromium, ...(PYTHON && { Python: inPython }) };

/** Waits for frames of one connection by a transport; returns when the first came, by the client's clock. */
async function works(events, rung) {
  let frames = [];
  const haveCome = until(`frames by ${rung}`, () => {
    const start = events.findLastIndex(({ state }) => state);
    frames = events.slice(start + 1).filter(({ live, transport }) => live && transport === rung);
    return frames.length >= FRAMES;
  });
  await haveCome.catch((error) => {
    const states = events.filter(({ state }) => state).slice(-20).map(({ state, transport, reason }) => `${transport} ${state} ${reason}`);
    throw new Error(`${error.message}; found ${states.join("; ")}`);
  });
  return frames[0].at;
}

/** Nothing came in time: one such loss is enough to leave a transport. */
const isMute = ({ state, reason }) => state === "waiting" && /silent|in time/.test(reason);

/**
 * Before a transport was open the better ones were tried, each so often at least: the proxy did what it is there for. On a
 * machine that is too slow any transport may be mute, is left for that at its first try, and others are tried in its place.
 */
function assertTries(events, rung, { tries, mute = [] }) {
  const before = events.slice(0, events.findIndex(({ state, transport }) => state === "open" && transport === rung));
  const dialled = before.filter(({ state }) => state === "connecting").map(({ transport }) => transport);
  const isSlow = before.some((event) => isMute(event) && !mute.includes(event.transport));
  if (!isSlow) assert.deepEqual([...new Set(dialled)], [...Object.keys(tries), rung]);
  for (const [above, count] of Object.entries(tries)) {
    const found = dialled.filter((it) => it === above).length;
    const least = isSlow ? 1 : count;
    assert.ok(found >= least, `expected ${least} attempts by ${above}, found ${found}`);
  }
}

/** Each transport was left for a reason: so many points by failures, as given, six by being mute, and two by each short life. */
function assertLeft(events, rung, failure) {
  const before = events.slice(0, events.findIndex(({ state, transport }) => state === "open" && transport === rung));
  for (const [above, points] of Object.entries(failure)) {
    const count = (wanted) => before.filter(({ state, transport }) => state === wanted && transport === above).length;
    const [tries, lives] = [count("connecting"), count("open")];
    // One that was tried beside another is open without having been dialled.
    const mutes = before.filter((event) => isMute(event) && event.transport === above).length;
    const found = 2 * lives + points * Math.max(0, tries - lives) + 6 * mutes;
    assert.ok(found >= 6, `expected 6 points against ${above}, found ${found} by ${tries} attempts, of which ${lives} were open`);
  }
}

describe("a client", { concurrency: true, skip }, () => {
  for (const [runtime, begin] of Object.entries(RUNTIMES)) {
    for (const { name, does, rung, tries, mute } of ROWS) {
      test(`in ${runtime} behind a proxy that ${does} takes ${rung}, and later WebSocket`, async () => {
        const events = [];
        const way = `${name}-${runtime}`;
        await begin(proxy.url(way), events);
        const fall_ms = (await works(events, rung)) - events[0].at;
        assertTries(events, rung, { tries, mute });
        await pause(CLOSED_MS);
        const { at } = events.at(-1);
        proxy.free(way);
        const return_ms = (await works(events, "websocket")) - at;
        console.log(`${way}: ${rung} after ${Math.round(fall_ms)} ms, websocket ${Math.round(return_ms)} ms after the way was free`);
        if (IS_LONG) assert.ok(fall_ms <= FALL_MS_MAX && return_ms <= RETURN_MS_MAX);
        assertDense(events);
      });
    }

    test(`in ${runtime} behind a proxy that drops every connection soon takes long polls, and later WebSocket`, async () => {
      const events = [];
      const dropper = await startProxy(server.url, [{ name: "drops" }]);
      // Streams once they are open, so that most have short lives; polls at any time.
      let streams = 0;
      let dropped_at = 0;
      const timer = setInterval(() => {
        const opened = events.filter(({ state }) => state === "open").map(({ transport }) => transport);
        const open = opened.filter((it) => it !== "longpoll").length;
        const isDue = opened.includes("longpoll") && performance.now() - dropped_at > DROP_MS;
        if (open === streams && !isDue) return;
        [streams, dropped_at] = [open, performance.now()];
        dropper.reload();
      }, LOOK_MS);
      try {
        await begin(dropper.url("drops"), events);
        await works(events, "longpoll");
        assertTries(events, "longpoll", { tries: { websocket: 2, sse: 1 } });
        assertLeft(events, "longpoll", { websocket: 3, sse: 6 });
        clearInterval(timer);
        await works(events, "websocket");
        assertDense(events);
      } finally {
        clearInterval(timer);
        await dropper.stop();
      }
    });
  }
});
