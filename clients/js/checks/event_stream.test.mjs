/**
 * Real decoders read the gzip stream of events, whose window many clients share: they join while it runs, resume through
 * ends and cuts, and fall behind. Each has every message once, in order, as it was published.
 *
 * The `EventSource` of browsers without any client, our client on the `fetch` of Node and of Chromium, curl, and urllib3
 * (which is what Python's `requests` reads with). SERVER_BINARY names a built fanline; decoders that are not there are not
 * run. DECODED_MESSAGES says how many messages each reads after the last cut; with 100,000 and more they also fall behind.
 */

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, get, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { start } from "../../conformance/runner/adapter_browser.mjs";
import { connect } from "../src/fanline.js";
import { EventParser } from "../src/sse.js";
import { launch, serve, sum, until } from "./kit.mjs";

const FRAMES = Number(process.env.DECODED_MESSAGES ?? 2_000);
/** Messages a second. What the system holds for one that stands still is full only after very many. */
const RATE = Math.max(1_000, FRAMES / 20);
const FALLS_BEHIND = RATE >= 5_000;
const PATH = "/v1/sse?topics=>&policy=lossless";
/** So many further clients read the same stream as it is sent, so that there is a window to share. */
const COMPANY = 3;
/** How a stream ends that has brought so many bytes; the one after goes on. */
const ENDS = [
  (response, bytes) => response.end(bytes),
  (response, bytes) => response.write(bytes.subarray(0, bytes.length / 2), () => response.socket.destroy()),
  (response, bytes) => response.write(bytes.subarray(0, bytes.length / 2), () => response.socket.resetAndDestroy()),
];
const BYTES = 20_000;
/** The simulated market has sixty symbols, and two topics of each. */
const TOPICS = 120;

const PAGES = {
  "/source": `<!doctype html><script type="module">
    const source = new EventSource("${PATH}");
    const seen = [];
    for (const name of ["message", "subscribed", "skipped", "gap", "stale", "live", "refused"]) {
      source.addEventListener(name, ({ data }) => seen.push(data));
    }
    for (;;) {
      await fetch("/seen", { method: "POST", body: JSON.stringify(seen.splice(0)) });
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  </script>`,
  "/client": `<!doctype html><script type="module">
    import { connect } from "/src/fanline.js";
    const client = connect(location.origin + "/v1/ws", { transports: ["sse"], policy: "lossless", backoff_ms: 100 });
    const seen = [];
    client.subscribe(">", (frame, live, text) => seen.push(text));
    for (const name of ["skipped", "gap", "stale", "live", "refused"]) client.on(name, (event) => seen.push(JSON.stringify(event)));
    for (;;) {
      await fetch("/seen", { method: "POST", body: JSON.stringify(seen.splice(0)) });
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  </script>`,
};

const READER = fileURLToPath(new URL("event_stream.py", import.meta.url));
const TARGET = process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL("../../../target", import.meta.url));
const PYTHON = join(TARGET, "venv/bin/python");

let server;
let browser;
let reference;
const company = [];
let standing = 0; // streams that stand still

before(async () => {
  if (!process.env.SERVER_BINARY) return;
  const small = ["--slow-unsent-bytes-max", "16KiB", "--ring-frames-max", "1048576", "--ring-bytes-max", "1GiB"];
  server = await serve("--simulate-rate", `${RATE}`, ...small);
  reference = listenPlain();
  await until("the reference to be live", () => reference.texts.size > 2 * TOPICS);
  for (let i = 0; i < COMPANY; i++) {
    company.push(get(server.url + PATH, { headers: { "accept-encoding": "gzip" } }, (answer) => answer.resume()).on("error", () => {}));
  }
});

after(async () => {
  for (const it of [...company, reference?.stream]) it?.destroy();
  await browser?.close();
  server?.stop();
});

/** What is published, by offset, from a stream that nobody compresses. */
function listenPlain() {
  const texts = new Map();
  const events = new EventParser((data) => {
    const offset = offsetOf(data);
    if (offset) texts.set(offset, data);
  });
  const stream = get(server.url + PATH, { headers: { "accept-encoding": "identity" } }, (answer) => {
    assert.equal(answer.headers["content-encoding"], undefined);
    answer.setEncoding("utf8").on("data", (text) => events.push(text));
  }).on("error", () => {});
  return { texts, stream };
}

const offsetOf = (text) => Number(/"offset":(\d+)/.exec(text)?.[1]);

/** Why a program cannot be run, or false. */
function lack(program, ...args) {
  try {
    execFileSync(program, args, { stdio: "ignore" });
  } catch {
    return `there is no ${program}`;
  }
  return process.env.SERVER_BINARY ? false : "SERVER_BINARY names no fanline";
}

/** Nothing is read until the server has noticed. */
async function standStill(answer) {
  answer.pause();
  standing += 1;
  await until("a client that is behind", async () => (await sum(server.url, "fanline_sessions_behind")) >= standing);
  standing -= 1;
  answer.resume();
}

/** A way to the server's events on which streams end. */
async function listen() {
  // A client that had to wait for an answer for too long has asked again: that is no end.
  const seen = { texts: [], first: [], resumed: [], encodings: [], ends: 0, isLast: false };
  const pass = ({ url, headers }, response) => {
    const end = ENDS[seen.ends];
    const cursor = headers["last-event-id"] ?? new URL(url, server.url).searchParams.get("since") ?? undefined;
    (seen.ends ? seen.resumed : seen.first).push(cursor);
    const upstream = request(server.url + url, { headers: { ...headers, host: new URL(server.url).host } }, async (answer) => {
      let left = BYTES;
      seen.encodings.push(answer.headers["content-encoding"]);
      response.writeHead(answer.statusCode, answer.headers);
      answer.on("data", (bytes) => {
        left -= bytes.length;
        if (!end || left > 0) return response.write(bytes);
        answer.destroy();
        seen.ends += 1;
        return end(response, bytes);
      });
      answer.on("error", () => response.destroy());
      if (end) return;
      if (FALLS_BEHIND) await standStill(answer);
      seen.isLast = true;
    });
    response.on("close", () => upstream.destroy());
    upstream.on("error", () => response.destroy());
    upstream.end();
  };
  const listener = createServer(async (question, response) => {
    const { pathname } = new URL(question.url, "http://host");
    if (pathname === "/v1/sse") return pass(question, response);
    if (PAGES[pathname]) return response.writeHead(200, { "content-type": "text/html" }).end(PAGES[pathname]);
    if (pathname.startsWith("/src/")) {
      const file = new URL(`..${pathname}`, import.meta.url);
      return response.writeHead(200, { "content-type": "text/javascript" }).end(readFileSync(file));
    }
    if (pathname === "/seen") seen.texts.push(...JSON.parse((await question.toArray()).join("")));
    return response.end();
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const close = () => {
    listener.closeAllConnections();
    listener.close();
  };
  return { seen, url: `http://127.0.0.1:${listener.address().port}`, close };
}

async function inBrowser(name, page) {
  const profile = mkdtempSync(join(tmpdir(), "fanline-events-"));
  const child = await start(name, profile, page);
  return async () => {
    child.kill();
    await once(child, "exit");
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  };
}

/** Runs a program that ends with its stream, and again with the cursor of the last event. */
function inCurl(url, texts) {
  let [child, id, isOver] = [undefined, "", false];
  const run = () => {
    const events = new EventParser((data, name, last) => {
      id = last || id;
      texts.push(data);
    });
    child = spawn("curl", ["-sN", "--compressed", ...(id ? ["-H", `Last-Event-ID: ${id}`] : []), url + PATH], { stdio: ["ignore", "pipe", "inherit"] });
    child.stdout.setEncoding("utf8").on("data", (text) => events.push(text));
    child.on("exit", () => isOver || run());
  };
  run();
  return () => {
    isOver = true;
    child.kill();
  };
}

function inPython(url, texts) {
  const child = spawn(PYTHON, [READER, url + PATH], { stdio: ["ignore", "pipe", "inherit"] });
  createInterface(child.stdout).on("line", (line) => texts.push(line));
  return () => child.kill();
}

function inNode(url, texts) {
  const client = connect(`${url}/v1/ws`, { transports: ["sse"], policy: "lossless", backoff_ms: 100 });
  client.subscribe(">", (frame, live, text) => texts.push(text));
  for (const name of ["skipped", "gap", "stale", "live", "refused"]) client.on(name, (event) => texts.push(JSON.stringify(event)));
  return () => client.close();
}

async function inChromium(url) {
  browser ??= await launch();
  const context = await browser.newContext();
  await (await context.newPage()).goto(`${url}/client`);
  return () => context.close();
}

const CHROMIUM = process.env.CHROMIUM ?? "chromium";
const FIREFOX = process.env.FIREFOX ?? "firefox-esr";
const DECODERS = [
  ["EventSource of Chromium", (url) => inBrowser("chromium", `${url}/source`), lack(CHROMIUM, "--version")],
  ["EventSource of Firefox", (url) => inBrowser("firefox", `${url}/source`), lack(FIREFOX, "--version")],
  ["our client on fetch of Chromium", inChromium, lack(CHROMIUM, "--version")],
  ["our client on fetch of Node", inNode, lack(process.execPath, "--version")],
  ["curl", inCurl, lack("curl", "--version")],
  ["urllib3", inPython, lack(PYTHON, "-c", "import urllib3")],
];

describe("the gzip stream of events", { concurrency: true }, () => {
  for (const [name, begin, skip] of DECODERS) {
    test(`${name} has every message once and as it was published`, { skip }, async () => {
      const { seen, url, close } = await listen();
      const stop = await begin(url, seen.texts);
      try {
        await until("the last stream", () => seen.isLast);
        const count = seen.texts.length;
        await until("messages of the last stream", () => seen.texts.length >= count + FRAMES);
      } finally {
        await stop();
        close();
      }
      assert.equal(seen.first[0], undefined);
      assert.equal(seen.ends, ENDS.length, "each end has happened");
      for (const cursor of seen.resumed) assert.match(cursor, /^[0-9a-f]{16}:\d+$/);
      assert.deepEqual(new Set(seen.encodings), new Set(["gzip"]), "what everybody asks for");
      await check(seen.texts);
    });
  }
});

/** Current values come first, one of each topic; then every offset, as in the stream that is not compressed. */
async function check(texts) {
  const messages = texts.filter((text) => offsetOf(text) && !/"op":"(?:welcome|subscribed|heartbeat)"/.test(text));
  const offsets = messages.map(offsetOf);
  const start = offsets.findLastIndex((offset, i) => offset !== offsets[i - 1] + 1);
  assert.ok(start <= TOPICS, `message ${start} of ${offsets.length}: expected offset ${offsets[start - 1] + 1}, found ${messages[start]}`);
  await until("the reference", () => reference.texts.has(offsets.at(-1)));
  let compared = 0;
  for (const [i, text] of messages.entries()) {
    const published = reference.texts.get(offsets[i]);
    assert.ok(published !== undefined || i < start, `message ${i} of ${texts.length}, ${start}: ${text}`);
    if (published === undefined) continue;
    assert.equal(text, published);
    compared += 1;
  }
  assert.ok(compared >= FRAMES, `compared ${compared}`);
}
