/**
 * The hooks in a real Chromium, against the real server, in StrictMode: one connection, values that change, renders that do
 * not follow each frame, and a lossless handler beside them.
 *
 * SERVER_BINARY names a built fanline, CHROMIUM the browser; without them nothing is run.
 */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

import { open, sessionsAdopted, skip, until } from "./kit.mjs";

const SCRIPT = `
  import { createElement as h, StrictMode, useState } from "react";
  import { createRoot } from "react-dom/client";
  import { FanlineProvider, useFanlineState, useFrames, useTopic, useTopics } from "../src/react.js";

  const seen = (globalThis.seen = { renders: 0, offsets: [], prices: new Set(), topics: 0, state: "", current: false });
  function Price({ topic }) {
    const price = useTopic(topic, ({ data }) => data?.price);
    seen.current = useTopic(topic, (reading) => reading.isCurrent);
    seen.renders += 1;
    if (price !== undefined) seen.prices.add(price);
    return h("b", null, price);
  }
  function App() {
    const [isShown, show] = useState(true);
    globalThis.show = show;
    seen.state = useFanlineState();
    seen.topics = useTopics("trade.*", (readings) => readings.length);
    useFrames(">", ({ offset }, live) => live && seen.offsets.push(offset));
    return isShown ? h(Price, { topic: "trade.AAPL" }) : null;
  }
  const app = h(FanlineProvider, { url: "/v1/ws" }, h(App));
  createRoot(document.body.appendChild(document.createElement("div"))).render(h(StrictMode, null, app));
`;

let place;

before(async () => {
  if (!skip) place = await open();
});

after(() => place?.close());

test("components in StrictMode share a connection, and render no more often than the screen", { skip }, async () => {
  const { outputFiles } = await build({
    stdin: { contents: SCRIPT, resolveDir: fileURLToPath(new URL(".", import.meta.url)) },
    ...{ bundle: true, format: "iife", write: false, define: { "process.env.NODE_ENV": '"development"' } },
  });
  const context = await place.browser.newContext({ bypassCSP: true });
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", ({ message }) => complaints.push(message));
  await page.goto(`${place.url}/static/vendor/README.md`);
  const before = await sessionsAdopted(place.url);
  await page.addScriptTag({ content: outputFiles[0].text });
  await until("prices", () => page.evaluate(() => globalThis.seen.prices.size >= 3 && globalThis.seen.offsets.length > 500));
  const { renders, offsets, topics, state, current } = await page.evaluate(() => globalThis.seen);
  assert.deepEqual([state, current, topics > 10], ["open", true, true]);
  assert.ok(renders < offsets.length, `expected fewer renders than frames, found ${renders} for ${offsets.length}`);
  const missing = offsets.filter((offset, i) => i && offset <= offsets[i - 1]);
  assert.deepEqual(missing, [], "the handler gets each frame once, in order");
  await page.evaluate(() => globalThis.show(false));
  await page.evaluate(() => globalThis.show(true));
  await until("the price again", () => page.evaluate(() => document.body.querySelector("b")?.textContent));
  assert.equal((await sessionsAdopted(place.url)) - before, 1, "one connection, whatever is mounted twice");
  assert.deepEqual(complaints, []);
  await context.close();
});
