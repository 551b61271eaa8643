/**
 * The `EventSource` of real browsers, without any client, against the real server: it resumes by `Last-Event-ID` through
 * ends and cuts, and has every offset once.
 *
 * SERVER_BINARY names a built fanline; browsers that are not there are not run.
 */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { start } from "../../conformance/runner/adapter_browser.mjs";
import { serve, until } from "./kit.mjs";

/** How a stream ends that has brought so many bytes; the last one goes on. */
const ENDS = [
  (response, bytes) => response.end(bytes),
  (response, bytes) => response.write(bytes.subarray(0, bytes.length / 2), () => response.socket.destroy()),
  (response, bytes) => response.write(bytes.subarray(0, bytes.length / 2), () => response.socket.resetAndDestroy()),
];
const BYTES = 6_000;
/** So many frames follow the last end. */
const FRAMES = 200;

const PAGE = `<!doctype html><title>EventSource</title><script type="module">
  const names = ["message", "subscribed", "skipped", "gap", "stale", "live", "refused"];
  const source = new EventSource("/v1/sse?topics=>");
  const seen = [];
  for (const name of names) source.addEventListener(name, ({ data }) => seen.push(JSON.parse(data)));
  for (;;) {
    const told = seen.splice(0).map(({ op = "frame", offset }) => ({ op, offset }));
    await fetch("/seen", { method: "POST", body: JSON.stringify({ told, state: source.readyState }) });
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
</script>`;

let server;

before(async () => {
  if (process.env.SERVER_BINARY) server = await serve();
});

after(() => server?.stop());

/** Why a browser cannot be run, or false. */
function lack(program) {
  try {
    execFileSync(program, ["--version"], { stdio: "ignore" });
  } catch {
    return `there is no ${program}`;
  }
  return process.env.SERVER_BINARY ? false : "SERVER_BINARY names no fanline";
}

/** The page, and a way to the server's events on which streams end. */
async function listen() {
  const seen = { events: [], state: 0, cursors: [], encodings: [] };
  const pass = ({ url, headers }, response) => {
    const end = ENDS[seen.cursors.length];
    seen.cursors.push(headers["last-event-id"]);
    const upstream = request(server.url + url, { headers }, (answer) => {
      let left = BYTES;
      seen.encodings.push(answer.headers["content-encoding"]);
      response.writeHead(answer.statusCode, answer.headers);
      answer.on("data", (bytes) => {
        left -= bytes.length;
        if (!end || left > 0) return response.write(bytes);
        answer.destroy();
        return end(response, bytes);
      });
    });
    response.on("close", () => upstream.destroy());
    upstream.on("error", () => response.destroy());
    upstream.end();
  };
  const listener = createServer(async (question, response) => {
    if (question.url.startsWith("/v1/sse")) return pass(question, response);
    if (question.url !== "/seen") return response.writeHead(200, { "content-type": "text/html" }).end(PAGE);
    const { told, state } = JSON.parse((await question.toArray()).join(""));
    seen.events.push(...told);
    seen.state = state;
    return response.end();
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  return { seen, listener, page: `http://127.0.0.1:${listener.address().port}/` };
}

describe("EventSource", { concurrency: true }, () => {
  for (const [browser, program] of [
    ["chromium", process.env.CHROMIUM ?? "chromium"],
    ["firefox", process.env.FIREFOX ?? "firefox-esr"],
  ]) {
    test(`of ${browser} has every offset once through ends and cuts`, { skip: lack(program) }, async () => {
      const { seen, listener, page } = await listen();
      const profile = mkdtempSync(join(tmpdir(), "fanline-events-"));
      const child = await start(browser, profile, page);
      try {
        await until("the last stream", () => seen.cursors.length > ENDS.length);
        const count = seen.events.length;
        await until("frames of the last stream", () => seen.events.length > count + FRAMES);
      } finally {
        child.kill();
        await once(child, "exit");
        listener.closeAllConnections();
        listener.close();
        rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
      }
      const [first, ...resumed] = seen.cursors;
      assert.equal(first, undefined);
      assert.equal(resumed.length, ENDS.length, "one attempt for each end");
      for (const cursor of resumed) assert.match(cursor, /^[0-9a-f]{16}:\d+$/);
      assert.deepEqual(new Set(seen.encodings), new Set(["gzip"]), "what browsers ask for");
      assert.ok(!seen.events.some(({ op }) => op === "skipped"));
      const { offset: joinedAt } = seen.events.find(({ op }) => op === "subscribed");
      const offsets = seen.events.filter(({ op, offset }) => op !== "subscribed" && offset > joinedAt).map(({ offset }) => offset);
      const expected = offsets.map((_, i) => joinedAt + 1 + i);
      assert.deepEqual(offsets, expected, "every offset once and in order");
    });
  }
});
