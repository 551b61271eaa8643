/** What checks in a browser share: the real server, and a real Chromium in front of it. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const BINARY = process.env.SERVER_BINARY;
const BROWSER = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser"].find((path) => path && existsSync(path));
/** For whatever is waited for: a slow machine is no failure. */
const DEADLINE_MS = 120_000;

/** Why checks cannot be run, or false. */
export const skip = BINARY && BROWSER ? false : "SERVER_BINARY names no fanline, or there is no Chromium";

/** Starts the browser. */
export function launch() {
  const args = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"];
  return chromium.launch({ executablePath: BROWSER, args });
}

/** Starts the server. @param {string[]} options */
export async function serve(...options) {
  const server = spawn(BINARY, ["--listen", "127.0.0.1:0", "--log-level", "error", ...options], { stdio: ["ignore", "pipe", "inherit"] });
  let url;
  for await (const line of createInterface(server.stdout)) {
    url = /^fanline listening on (http:\S+)/.exec(line)?.[1];
    if (url) break;
  }
  server.stdout.resume();
  return { url, stop: () => server.kill() };
}

/** Starts both. */
export async function open() {
  const { url, stop } = await serve();
  const browser = await launch();
  const close = async () => {
    await browser.close();
    stop();
  };
  return { url, browser, stop, close };
}

/** Ports that nobody listens on. All are taken before one is given back, so that they differ. */
export async function freePorts(count) {
  const listeners = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(listeners.map((it) => once(it, "listening")));
  const ports = listeners.map((it) => it.address().port);
  await Promise.all(listeners.map((it) => once(it.close(), "close")));
  return ports;
}

/** @param {string} what @param {() => any} fn */
export async function until(what, fn) {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    if (await fn()) return;
    assert.ok(Date.now() < deadline, `expected ${what} within ${DEADLINE_MS / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Whether a page is served there. @param {string} url */
export const answers = (url) => fetch(url).then(({ ok }) => ok, () => false);

/** The sum over the shards. @param {string} url @param {string} metric */
export async function sum(url, metric) {
  const text = await (await fetch(`${url}/metrics`)).text();
  const values = [...text.matchAll(new RegExp(`^${metric}\\{[^}]*\\} (\\d+)$`, "gm"))];
  return values.reduce((total, [, value]) => total + Number(value), 0);
}

/** Sessions there are. @param {string} url */
export const sessions = (url) => sum(url, "fanline_sessions");

/** Sessions there ever were. @param {string} url */
export const sessionsAdopted = (url) => sum(url, "fanline_sessions_adopted_total");
