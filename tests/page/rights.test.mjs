/**
 * The page asks for a token where the server wants one, and a delayed value never looks live.
 *
 * Run by tests/clients/page.rs, which names the binary and the browser (kit.mjs).
 */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, open, start, stop, until, untilText, untilValuesChange } from "./kit.mjs";

const folder = mkdtempSync(join(tmpdir(), "fanline-page-"));
const secret = join(folder, "secret");
const file = join(folder, "fanline.toml");
const CONFIGURATION = `
[simulate]
[[auth.issuer]]
issuer = "development"
audience = ["fanline"]
algorithms = ["HS256"]
secret_file = "${secret}"
[auth.tier.pro]
topics = [">"]
[auth.tier.late]
topics = ["quote.>"]
delay = "1s"
`;

let browser;

before(async () => {
  writeFileSync(secret, "a secret of more than thirty-two bytes");
  browser = await launch();
});

after(() => browser?.close());

/** A token of a tier. */
function token(tier) {
  const options = ["token", "--secret-file", secret, "--sub", "alice", "--tier", tier, "--expires", "1h"];
  return execFileSync(process.env.SERVER_BINARY, options, { encoding: "utf8" }).trim();
}

test("a token is asked for, shown by message, kept for the tab, and never in an address", async () => {
  writeFileSync(file, CONFIGURATION);
  const server = await start("--config", file);
  const { page, close } = await open(browser, `${server.url}/#/topics`);
  const addresses = [];
  page.on("request", (request) => addresses.push(request.url()));
  page.on("websocket", (socket) => addresses.push(socket.url()));
  await until(page, "a question for the token", () => document.getElementById("token-dialog").open);
  await page.fill("#token", "not-a-token");
  await page.click("#token-form button[type=submit]");
  await untilText(page, "#token-why", /does not accept/);
  const good = token("pro");
  await page.fill("#token", good);
  await page.click("#token-form button[type=submit]");
  await untilValuesChange(page, 2);
  await page.reload();
  await untilValuesChange(page, 2);
  assert.ok(addresses.length > 3);
  for (const address of [...addresses, page.url()]) assert.ok(!address.includes(good), address);
  await page.click("#token-open");
  await page.click("#token-forget");
  await until(page, "a question for the token again", () => document.getElementById("token-dialog").open);
  await close();
  await stop(server);
});

test("whatever a browser has kept, the page asks for a token that is none, by every transport", async () => {
  writeFileSync(file, CONFIGURATION);
  const server = await start("--config", file);
  const { page, close } = await open(browser, `${server.url}/#/topics`);
  const { host } = new URL(server.url);
  for (const transport of ["websocket 0", "sse 9e99", "poll 9e99", "\u0000", "sse sse"]) {
    await page.evaluate(
      ([host, transport]) => {
        sessionStorage.setItem(`fanline.token ${host}`, "\u043a\r\nHost: elsewhere");
        sessionStorage.setItem(`fanline.transport ${host}`, transport);
        localStorage.setItem("fanline.single_keys_off", "{");
      },
      [host, transport],
    );
    await page.reload();
    await until(page, `a question for the token by ${transport}`, () => document.getElementById("token-dialog").open);
    await untilText(page, "#token-why", /does not accept/);
  }
  await page.fill("#token", token("pro"));
  await page.click("#token-form button[type=submit]");
  await untilValuesChange(page, 2);
  await close();
  await stop(server);
});

test("what is delayed is marked in every row and view, and says so instead of live", async () => {
  writeFileSync(file, `${CONFIGURATION}\n[auth.anonymous]\ntier = "late"\n`);
  const server = await start("--config", file);
  const { page, close } = await open(browser, `${server.url}/#/topics`);
  await until(page, "delayed rows", () => {
    const rows = [...document.querySelectorAll("#rows .row")];
    return rows.length > 5 && rows.every(({ dataset }) => dataset.confidence !== "current");
  });
  await until(page, "a mark", () => document.querySelector('#rows [data-confidence="delayed"] .mark-delayed')?.textContent === "D");
  await until(page, "the state", () => document.body.dataset.feed === "delayed");
  assert.match(await page.locator("#delayed").innerText(), /Delayed 1 s/);
  await page.evaluate(() => (location.hash = "#/topic/quote.SPY"));
  await untilText(page, "#topic-state", /^Delayed 1 s/);
  await page.evaluate(() => (location.hash = "#/health"));
  await untilText(page, "#health-state", /only to its operator/);
  await close();
  await stop(server);
});
