/**
 * What every test of the page needs: the real server, with a feed, and a real browser in front of it.
 *
 * SERVER_BINARY names the server's binary, CHROMIUM and FIREFOX the browsers. Whatever is waited for has DEADLINE_MS: a
 * slow machine is no failure.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

import { writeRecording } from "./market.mjs";

export const DEADLINE_MS = 30_000;
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** No server listens there. */
const REFUSED = /net::ERR_CONNECTION_REFUSED/;

export const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

/** Starts a program of the binary, and waits until it says where it listens. @param {string[]} options @param {RegExp} announcement */
async function run(options, announcement) {
  // Settings of the person who runs the tests are not the test's; the server refuses unknown ones.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("FANLINE_")));
  const child = spawn(process.env.SERVER_BINARY, options, { env, stdio: ["ignore", "pipe", "inherit"] });
  const found = [];
  for await (const line of createInterface(child.stdout)) {
    const url = announcement.exec(line)?.[1];
    if (!url) {
      found.push(line);
      continue;
    }
    child.stdout.resume();
    return { child, url };
  }
  throw new Error(`expected a line like ${announcement}, found the end of the output:\n${found.join("\n")}`);
}

/** Starts the server. @param {...string} options without a feed it serves the simulated market */
export async function start(...options) {
  const listen = options.includes("--listen") ? [] : ["--listen", "127.0.0.1:0"];
  const { child, url } = await run([...listen, "--log-level", "warn", ...options], /^fanline listening on (http:\S+)/);
  return { child, url, listen: new URL(url).host };
}

/** A port of the loopback that nobody listens on, for a listener whose address the server does not announce. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** Starts the server with a topic of each kind. @param {...string} options */
export async function startMarket(...options) {
  const recording = join(mkdtempSync(join(tmpdir(), "fanline-page-")), "market.jsonl");
  writeRecording(recording);
  const feed = await run(["replay", recording, "--loop", "--listen", "127.0.0.1:0"], /(ws:\/\/\S+)/);
  const profile = new URL("market.toml", import.meta.url).pathname;
  return { ...(await start(feed.url, "--profile", profile, ...options)), feed };
}

export async function stop({ child, feed }) {
  if (feed) await stop(feed);
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await once(child, "exit");
}

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
}

/** Opens the page; whatever it complains about is collected in `complaints`. */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(DEADLINE_MS);
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  // That nothing could be opened is what a test with a killed server is about; browsers log it as an error.
  page.on("requestfailed", (request) => {
    if (!REFUSED.test(request.failure()?.errorText ?? "")) complaints.push(`failed: ${request.url()}`);
  });
  page.on("console", (message) => {
    const outage = /^WebSocket connection to .* failed/.test(message.text()) || REFUSED.test(message.text());
    if (["error", "warning"].includes(message.type()) && !outage) complaints.push(message.text());
  });
  await page.goto(url);
  return { page, complaints, close: () => context.close() };
}

/** Waits until `condition(argument)` holds in the page, and says what was waited for if it never does. */
export async function until(page, what, condition, argument, timeout = DEADLINE_MS) {
  try {
    await page.waitForFunction(condition, argument, { timeout });
  } catch (error) {
    const seen = await page.locator("body").innerText();
    throw new Error(`expected within ${timeout} ms: ${what}; found:\n${seen.slice(0, 1500)}`, { cause: error });
  }
}

/** Waits until at least `count` topics in sight have another value than now, all of them marked as current. */
export async function untilValuesChange(page, count) {
  const read = () => {
    const rows = [...document.querySelectorAll("#rows .row[data-topic]")];
    return Object.fromEntries(rows.map((row) => [row.dataset.topic, row.querySelector(".c-value").textContent]));
  };
  const before = await page.evaluate(read);
  const changed = ({ before, count }) => {
    const rows = [...document.querySelectorAll('#rows .row[data-confidence="current"]')];
    const moved = rows.filter((row) => row.querySelector(".c-value").textContent !== before[row.dataset.topic]);
    return moved.length >= count;
  };
  await until(page, `${count} topics change their values`, changed, { before, count });
}

/** Waits until the page shows a text in an element. @param {string} selector @param {RegExp} pattern */
export function untilText(page, selector, pattern) {
  const matches = ([selector, source, flags]) => new RegExp(source, flags).test(document.querySelector(selector)?.textContent ?? "");
  return until(page, `${selector} to match ${pattern}`, matches, [selector, pattern.source, pattern.flags]);
}

/** Topics of the rows in sight, from top to bottom. */
export function topicsShown(page) {
  return page.locator("#rows .row[data-topic]").evaluateAll((rows) => rows.map((row) => row.dataset.topic));
}
