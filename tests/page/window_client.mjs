/**
 * A stock client as a puppet: Chromium's WebSocket, in a page served by a running fanline. Used by tests/delivery/shared_window.rs.
 *
 * Usage: window_client.mjs URL window, with CHROMIUM naming the browser. It trusts the certificate in the file that
 * NODE_EXTRA_CA_CERTS names.
 *
 * Hands back the extensions that were agreed on, then every message as decoded, one line each. Orders on stdin:
 * `send TEXT`, `pause` (the page's only thread stands still, so that nothing more is read), `resume`, `close`.
 */

import { createHash, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"];
/** A path that nobody serves: the page asks for it, synchronously, and is answered when it may go on. */
const STANDSTILL = "/standstill";

/** The flag that makes the browser accept the certificate's key, whoever has signed it. */
function trust(file) {
  const key = new X509Certificate(readFileSync(file)).publicKey.export({ type: "spki", format: "der" });
  return `--ignore-certificate-errors-spki-list=${createHash("sha256").update(key).digest("base64")}`;
}

/** Runs in the page. */
function perform({ url, standstill }) {
  const ws = new WebSocket(url, "fanline.v1");
  let unsaid = [];
  const flush = () => {
    globalThis.say(unsaid);
    unsaid = [];
  };
  const say = (text) => {
    if (!unsaid.length) setTimeout(flush);
    unsaid.push(text);
  };
  ws.onopen = () => say(ws.extensions);
  ws.onmessage = ({ data }) => say(data);
  ws.onclose = ({ code, reason, wasClean }) => globalThis.ended(`${code} ${reason}`, wasClean);
  globalThis.orders = {
    send: (text) => ws.send(text),
    pause: () => {
      const request = new XMLHttpRequest();
      request.open("GET", standstill, false);
      request.send();
    },
    close: () => ws.close(1000),
  };
}

const [url] = process.argv.slice(2);
const trusted = process.env.NODE_EXTRA_CA_CERTS;
const args = trusted ? [...FLAGS, trust(trusted)] : FLAGS;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
// The page that is borrowed may connect to nothing by its policy.
const page = await browser.newPage({ bypassCSP: true });
let closing = false;
let [standstill, resume] = [];
await page.route(`**${STANDSTILL}`, async (route) => {
  await standstill;
  await route.fulfill({ status: 204 });
});
await page.exposeFunction("say", (texts) => process.stdout.write(`${texts.join("\n")}\n`));
await page.exposeFunction("ended", async (how, wasClean) => {
  await browser.close();
  if (closing && wasClean) process.exit(0);
  console.error(`closed by the server: ${how}`);
  process.exit(1);
});
// A page of the server's without a script that would connect as well.
await page.goto(new URL("/healthz", url.replace(/^ws/, "http")).href);
await page.evaluate(perform, { url, standstill: STANDSTILL });

for await (const line of createInterface(process.stdin)) {
  const [order] = line.split(" ", 1);
  const text = line.slice(order.length + 1);
  if (order === "resume") resume();
  else if (order === "pause") {
    standstill = new Promise((resolve) => (resume = resolve));
    // Not awaited: it returns when the page has been resumed.
    page.evaluate(() => globalThis.orders.pause());
  } else {
    closing ||= order === "close";
    await page.evaluate(([order, text]) => globalThis.orders[order](text), [order, text]);
  }
}
