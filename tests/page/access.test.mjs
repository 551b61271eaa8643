/**
 * Everybody can read the page: axe-core finds no violation of WCAG 2.2 AA in any view, light or dark, on a desk or a phone.
 *
 * Run by tests/clients/page.rs, which names the binary and the browser (kit.mjs).
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";

import { launch, open as openPage, PHONE, startMarket, stop, until } from "./kit.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** A view, and what is there once it has its content. */
const VIEWS = [
  ["#/topics?group=1&pins=quote.ACME", () => document.querySelectorAll('#rows .row[data-confidence="current"]').length >= 4],
  ["#/topic/quote.ACME", () => document.querySelector("#chart canvas") && document.getElementById("quote-bid").textContent],
  ["#/topic/trade.ACME", () => document.querySelectorAll("#tape-rows tr").length > 3],
  ["#/topic/book.ACME", () => document.querySelectorAll("#book-asks tr").length > 3],
  ["#/topic/chat.lobby", () => document.querySelectorAll("#chat-lines li").length > 3],
  ["#/topic/pump.7", () => document.getElementById("payload").textContent],
  ["#/topic/quote.NOBODY", () => document.getElementById("topic-empty").checkVisibility()],
  ["#/health", () => document.querySelectorAll("#shards tr").length > 0 && document.querySelector("#rate-chart canvas")],
  ["#/use", () => document.getElementById("snippet").textContent],
];

let server;
let browser;

before(async () => {
  [server, browser] = await Promise.all([startMarket(), launch()]);
});

after(async () => {
  await browser?.close();
  if (server) await stop(server);
});

async function check(page, what) {
  const violations = await page.evaluate(async (tags) => {
    const { violations } = await globalThis.axe.run(document, { runOnly: tags, resultTypes: ["violations"] });
    return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html.slice(0, 200)).join(" ")}`);
  }, RULES);
  assert.deepEqual(violations, [], what);
}

async function checkAll(options, name) {
  const { page, close } = await openPage(browser, `${server.url}/#/topics`, options);
  await page.evaluate(AXE);
  for (const [hash, isThere] of VIEWS) {
    await page.evaluate((hash) => (location.hash = hash), hash);
    await until(page, hash, isThere);
    await check(page, `${hash}, ${name}`);
  }
  for (const [button, dialog] of [["#help-open", "#help"], ["#token-open", "#token-dialog"]]) {
    await page.click(button);
    await check(page, `${dialog}, ${name}`);
    await page.click(`${dialog} form[method=dialog] button`);
  }
  await close();
}

test("light", () => checkAll({ colorScheme: "light" }, "light"));
test("dark", () => checkAll({ colorScheme: "dark" }, "dark"));
test("on a phone", () => checkAll({ ...PHONE, colorScheme: "light" }, "phone"));

test("values that are not current can be read, too", async () => {
  const { page, close } = await openPage(browser, `${server.url}/#/topic/quote.ACME`);
  await page.evaluate(AXE);
  await until(page, "a value", () => document.getElementById("topic-value").textContent);
  await page.evaluate(() => dispatchEvent(new Event("offline")));
  server.child.kill("SIGSTOP");
  try {
    await until(page, "an old value", () => document.getElementById("topic-view").dataset.confidence === "old");
    await check(page, "old");
  } finally {
    server.child.kill("SIGCONT");
  }
  await close();
});
