/**
 * The worked example in React, in a real Chromium against the real server.
 *
 * SERVER_BINARY names a built fanline, CHROMIUM the browser; without them nothing is run.
 */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { context } from "esbuild";

import { open, skip, until } from "./kit.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const FOLDER = here("../../../examples/watch_list");

let place;
let bundler;
let address;

before(async () => {
  if (skip) return;
  place = await open();
  bundler = await context({
    ...{ entryPoints: [`${FOLDER}/watch_list.jsx`], bundle: true, jsx: "automatic", write: false, outdir: FOLDER },
    nodePaths: [here("../node_modules")],
    alias: { "fanline/react": here("../src/react.js"), fanline: here("../src/fanline.js") },
  });
  const { port } = await bundler.serve({ servedir: FOLDER, host: "127.0.0.1", port: 0 });
  address = `http://127.0.0.1:${port}`;
});

after(async () => {
  await bundler?.dispose();
  await place?.close();
});

test("rows are added, removed and kept; values change, and are old once the server is gone", { skip }, async () => {
  const page = await place.browser.newPage();
  const bid = (topic) => page.locator(`[data-topic="${topic}"] td`).first();
  const hasPrice = async (topic) => /^\d/.test(await bid(topic).textContent());
  const topics = () => page.locator("tbody th").allTextContents();
  await page.goto(`${address}/?server=${place.url}`);
  await until("the first price", () => hasPrice("quote.AAPL"));
  await page.getByLabel("Topic").fill("quote.*");
  assert.match(await page.getByRole("alert").textContent(), /wildcard/);
  await page.getByLabel("Topic").fill("quote.MSFT");
  await page.getByRole("button", { name: "Add" }).click();
  await until("the current value of the new row", () => hasPrice("quote.MSFT"));
  const first = await bid("quote.MSFT").textContent();
  await until("another price", async () => (await bid("quote.MSFT").textContent()) !== first);
  await page.getByLabel("Remove quote.AAPL").click();
  assert.deepEqual(await topics(), ["quote.MSFT"]);
  await page.reload();
  await until("the kept row with a price", () => hasPrice("quote.MSFT"));
  assert.deepEqual(await topics(), ["quote.MSFT"]);
  place.stop();
  await until("an old value", async () => (await bid("quote.MSFT").getAttribute("style"))?.includes("line-through"));
});
