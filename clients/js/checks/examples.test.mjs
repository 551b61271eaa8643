/**
 * The page of a worked example in a real Chromium, against the example's own feed and the real server.
 *
 * SERVER_BINARY names a built fanline, CHROMIUM the browser; without them nothing is run.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { answers, launch, skip, until } from "./kit.mjs";

/** tests/setup makes it beside the folder of the built program. */
const PYTHON = fileURLToPath(new URL("../venv/bin/python", `file://${process.env.SERVER_BINARY}`));
const reason = skip || (existsSync(PYTHON) ? false : `expected Python with \`websockets\` at ${PYTHON}; tests/setup makes it`);

let browser;
let example;
let server;
let feed;

before(async () => {
  if (reason) return;
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const port = listener.address().port;
  listener.close();
  feed = `http://127.0.0.1:${port}`;
  const settings = { PYTHON, FANLINE: process.env.SERVER_BINARY, FANLINE_LISTEN: "127.0.0.1:0", FEED_PORT: `${port}` };
  const command = fileURLToPath(new URL("../../../examples/pitches/start", import.meta.url));
  example = spawn(command, { env: { ...process.env, ...settings }, stdio: ["ignore", "pipe", "ignore"] });
  for await (const line of createInterface(example.stdout)) {
    server = /^fanline listening on (http:\S+)/.exec(line)?.[1];
    if (server) break;
  }
  browser = await launch();
  await until("the feed's page", () => answers(feed));
});

after(async () => {
  await browser?.close();
  example?.kill();
});

test("the page shows every pitch, and strikes out what is old once the server is gone", { skip: reason }, async () => {
  const page = await browser.newPage();
  await page.goto(`${feed}/?server=${server}`);
  const rows = (selector) => page.locator(`tbody ${selector}`).count();
  await until("a full row for each of 8 pitches", async () => (await rows("td:not(:empty):not(.old)")) === 8 * 4);
  const first = await page.locator("tbody tr:first-child td:nth-child(2)").textContent();
  await until("another minute", async () => (await page.locator("tbody tr:first-child td:nth-child(2)").textContent()) !== first);
  example.kill();
  await until("three old values in each row", async () => (await rows("td.old")) === 8 * 3);
});
