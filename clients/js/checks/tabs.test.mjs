/**
 * Tabs with `fanline/shared` have one connection by the server's count; when the tab that owns it is gone, the others have
 * every offset once. In a real Chromium, against the real server.
 *
 * SERVER_BINARY names a built fanline, CHROMIUM the browser; without them nothing is run.
 */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { open, sessions, skip, until } from "./kit.mjs";

let place;

before(async () => {
  if (!skip) place = await open();
});

after(() => place?.close());

/** Runs in a tab: takes everything, and remembers the offsets. */
async function watch() {
  const { connect } = await import(new URL("/static/shared.js", location.href).href);
  const client = connect("/v1/ws", { name: "someone" });
  const seen = { live: [], skipped: 0, state: "" };
  Object.assign(globalThis, { seen });
  client.subscribe(">", ({ offset }, live) => {
    if (live || seen.live.length) seen.live.push(offset);
  });
  for (const op of ["stale", "live", "gap", "refused"]) client.on(op, ({ offset }) => offset && seen.live.push(offset));
  client.on("skipped", () => (seen.skipped += 1));
  client.on("state", ({ state }) => (seen.state = state));
}

for (const [how, prepare] of [
  ["a worker", () => {}],
  ["one of the tabs", () => delete globalThis.SharedWorker],
]) {
  test(`three tabs share a connection held by ${how}, and go on when the first is gone`, { skip }, async () => {
    const context = await place.browser.newContext({ bypassCSP: true });
    await context.addInitScript(prepare);
    const pages = [];
    for (let i = 0; i < 3; i++) {
      const page = await context.newPage();
      await page.goto(`${place.url}/static/vendor/README.md`);
      await page.evaluate(watch);
      await until("frames in a new tab", () => page.evaluate(() => globalThis.seen.live.length > 20));
      pages.push(page);
    }
    assert.equal(await sessions(place.url), 1);
    const [first, ...others] = pages;
    await first.close();
    for (const page of others) {
      const before = await page.evaluate(() => globalThis.seen.live.at(-1));
      await until("frames after the first tab", () => page.evaluate((before) => globalThis.seen.live.at(-1) > before + 500, before));
      const { live, skipped } = await page.evaluate(() => globalThis.seen);
      const sorted = [...live].sort((a, b) => a - b);
      const missing = sorted.filter((offset, i) => i && offset !== sorted[i - 1] + 1);
      assert.deepEqual([missing, skipped], [[], 0], "every offset once, and nothing skipped");
    }
    assert.equal(await sessions(place.url), 1);
    await context.close();
  });
}
