/**
 * Writes docs/screenshots: each view, light and dark, on a desk and on a phone. Run by `make screenshots`;
 * needs Debian's `pngquant`.
 *
 * The feed is the one of the tests (market.mjs); the table and the health view show the simulated market.
 */

import { execFileSync } from "node:child_process";
import { mkdirSync, statSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";

import { launch, open, PHONE, start, startMarket, stop, until } from "./kit.mjs";

const FOLDER = new URL("../../docs/screenshots/", import.meta.url);
const BYTES_MAX = 150_000;
/** Long enough for charts to have a line worth looking at. */
const SETTLE_MS = 6_000;
/** A busy machine paints late. */
const PATIENCE_MS = 120_000;

const SHOTS = [
  ["topics", "simulated", "#/topics?sort=-rate&pins=quote.SPY,trade.SPY", "#rows .row"],
  ["groups", "simulated", "#/topics?topics=*.AAPL,*.NVDA,*.SPY&group=1", "#rows .group"],
  ["quote", "simulated", "#/topic/quote.AAPL", "#chart canvas"],
  ["trades", "simulated", "#/topic/trade.BTC-USD", "#tape-rows tr"],
  ["book", "market", "#/topic/book.ACME", "#book-asks tr"],
  ["chat", "market", "#/topic/chat.lobby", "#chat-lines li"],
  ["json", "market", "#/topic/pump.7", "#payload:not(:empty)"],
  ["health", "simulated", "#/health", "#rate-chart canvas"],
  ["use", "simulated", "#/use?topics=quote.AAPL", "#snippet:not(:empty)"],
  ["late", "simulated", "#/topics?sort=-rate", "#rows .row"],
];
const LOOKS = {
  light: { colorScheme: "light" },
  dark: { colorScheme: "dark" },
  phone: { ...PHONE, colorScheme: "light" },
};

/** All looks, or those named. */
const asked = process.argv.slice(2);
mkdirSync(FOLDER, { recursive: true });
const browser = await launch();
const servers = { simulated: await start(), market: await startMarket() };
try {
  for (const [look, options] of Object.entries(LOOKS).filter(([name]) => !asked.length || asked.includes(name))) {
    for (const [name, feed, hash, content] of SHOTS) {
      const { page, close } = await open(browser, `${servers[feed].url}/${hash}`, options);
      page.setDefaultTimeout(PATIENCE_MS);
      await until(page, content, (content) => document.querySelector(content)?.checkVisibility(), content);
      await pause(SETTLE_MS);
      // The page of a server that is not heard any more; all others are shown while they are current.
      if (name === "late") servers[feed].child.kill("SIGSTOP");
      const state = name === "late" ? "late" : "live";
      await until(page, state, (state) => document.body.dataset.feed === state, state, PATIENCE_MS);
      const path = new URL(`${name}-${look}.png`, FOLDER).pathname;
      await page.screenshot({ path });
      servers[feed].child.kill("SIGCONT");
      // 128 colours are all that such a page has.
      execFileSync("pngquant", ["--force", "--strip", "--output", path, "128", path]);
      const { size } = statSync(path);
      console.log(`${name}-${look}.png ${Math.round(size / 1000)} kB`);
      if (size > BYTES_MAX) throw new Error(`expected at most ${BYTES_MAX} bytes, found ${size} in ${path}`);
      await close();
    }
  }
} finally {
  await browser.close();
  await Promise.all(Object.values(servers).map(stop));
}
