/**
 * The worked example in React, started by its documented command in a copy without packages, in a real Chromium.
 *
 * SERVER_BINARY names a built fanline, CHROMIUM the browser; without them nothing is run.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { answers, freePorts, launch, skip, until } from "./kit.mjs";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
/** Few enough messages that a topic has a value for a while before it has the next. */
const RATE = "60";

let folder;
let example;
let server;
let address;
let browser;
let page;

before(async () => {
  if (skip) return;
  folder = mkdtempSync(join(tmpdir(), "fanline-watch-list-"));
  const filter = (path) => !/node_modules|package-lock/.test(path);
  for (const name of ["examples/watch_list", "clients/js"]) cpSync(join(ROOT, name), join(folder, name), { recursive: true, filter });
  const [command] = /^examples\/.*$/m.exec(readFileSync(join(ROOT, "examples/watch_list/README.md"), "utf8"));
  const [port, serverPort] = await freePorts(2);
  server = `http://127.0.0.1:${serverPort}`;
  address = `http://127.0.0.1:${port}/?server=${server}`;
  const places = { FANLINE: process.env.SERVER_BINARY, FANLINE_LISTEN: `127.0.0.1:${serverPort}`, PORT: `${port}` };
  const settings = { FANLINE_SIMULATE_RATE: RATE, FANLINE_LOG_LEVEL: "error", npm_config_prefer_offline: "true" };
  const env = { ...process.env, ...places, ...settings };
  // A group of its own, so that all of it can be ended. The bundler ends with its input.
  example = spawn("sh", ["-c", command], { cwd: folder, env, detached: true, stdio: ["pipe", "ignore", "inherit"] });
  browser = await launch();
  page = await browser.newPage();
  await until("the example to be up", async () => (await answers(server)) && answers(address));
  await page.goto(address);
});

after(async () => {
  await browser?.close();
  await end();
  if (folder) rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});

/** Ends the example, the server included. */
async function end() {
  if (!example || example.exitCode !== null || example.signalCode !== null) return;
  process.kill(-example.pid);
  await once(example, "exit");
}

const bid = (topic) => page.locator(`[data-topic="${topic}"] td`).first();
const hasPrice = async (topic) => /^\d/.test(await bid(topic).textContent());
const topics = () => page.locator("tbody th").allTextContents();

async function add(topic) {
  await page.getByLabel("Topic").fill(topic);
  await page.getByRole("button", { name: "Add" }).click();
}

/** What the server keeps of quotes, by topic. */
async function retained() {
  const answer = await fetch(`${server}/v1/snapshot?topics=quote.*`);
  return new Map((await answer.json()).frames.map((frame) => [frame.topic, frame]));
}

test("rows are added, removed and kept; values change", { skip }, async () => {
  await until("the first price", () => hasPrice("quote.AAPL"));
  await page.getByLabel("Topic").fill("quote.*");
  assert.match(await page.getByRole("alert").textContent(), /wildcard/);
  await add("quote.MSFT");
  await until("a price of the new row", () => hasPrice("quote.MSFT"));
  const first = await bid("quote.MSFT").textContent();
  await until("another price", async () => (await bid("quote.MSFT").textContent()) !== first);
  await page.getByLabel("Remove quote.AAPL").click();
  assert.deepEqual(await topics(), ["quote.MSFT"]);
  await page.reload();
  await until("the kept row with a price", () => hasPrice("quote.MSFT"));
  assert.deepEqual(await topics(), ["quote.MSFT"]);
});

test("a row that is added late shows the value that was there before it", { skip }, async () => {
  for (const [topic, { offset, data }] of await retained()) {
    if ((await topics()).includes(topic)) continue;
    await add(topic);
    await until("a price", () => hasPrice(topic));
    const shown = await bid(topic).textContent();
    // Of a topic that has moved meanwhile nothing is known.
    if ((await retained()).get(topic).offset !== offset) continue;
    assert.equal(shown, String(data.bid));
    return;
  }
  assert.fail("expected a topic that stands still for a moment, found none");
});

for (const text of ["{", "null", "{}", "7", '[{"topic":"quote.AAPL"},"quote.*","a b",5]']) {
  test(`what the browser has kept may be damaged: ${text}`, { skip }, async () => {
    await page.evaluate((text) => localStorage.setItem("watch_list", text), text);
    await page.reload();
    await add("quote.TSLA");
    await until("a price", () => hasPrice("quote.TSLA"));
  });
}

test("values are old once the server is gone", { skip }, async () => {
  await end();
  await until("an old value", async () => (await bid("quote.TSLA").getAttribute("style"))?.includes("line-through"));
});
