/**
 * Frames a second and memory of the page at 1,000 topics and 5,000 messages a second. Run by `make page-performance`.
 *
 * SECONDS (600) says how long, RATE and SYMBOLS what the simulated market sends: two topics a symbol. The machine serves,
 * simulates and paints at once; the figures are those of Chromium without a graphics card.
 */

import { setTimeout as pause } from "node:timers/promises";

import { launch, open, start, stop, until } from "./kit.mjs";

const SECONDS = Number(process.env.SECONDS ?? 600);
const RATE = process.env.RATE ?? "5000";
const SYMBOLS = process.env.SYMBOLS ?? "500";
const HASH = process.env.HASH ?? "#/topics?sort=-rate";
const READINGS = 10;
/** Histories of values are full after three minutes; what grows later grows for ever. */
const FULL_S = 200;
const FRAMES_MIN = 50;
const GROWTH_MAX = 1.1;

const server = await start("--simulate-rate", RATE, "--simulate-symbols", SYMBOLS);
const browser = await launch();
const { page } = await open(browser, `${server.url}/${HASH}`);
const session = await page.context().newCDPSession(page);

async function heapBytes() {
  await session.send("HeapProfiler.collectGarbage");
  const { usedSize } = await session.send("Runtime.getHeapUsage");
  return usedSize;
}

/** Begins to count frames and the time between them. */
const count = () => {
  globalThis.frames = [];
  const frame = (now) => {
    globalThis.frames.push(now);
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
};

const read = () => {
  const times = globalThis.frames.splice(0, globalThis.frames.length);
  const gaps = times.slice(1).map((at, i) => at - times[i]).sort((a, b) => a - b);
  const messages = document.getElementById("meter-messages").textContent;
  const latency = document.getElementById("meter-p99").textContent;
  return { perSecond: (gaps.length * 1000) / (times.at(-1) - times[0]), p99: gaps[Math.floor(gaps.length * 0.99)], messages, latency };
};

try {
  const topics = String(2 * Number(SYMBOLS));
  await until(page, `${topics} topics`, (topics) => document.getElementById("meter-topics").textContent === topics, topics);
  await page.evaluate(count);
  const rows = [];
  for (let reading = 1; reading <= READINGS; reading++) {
    await pause((SECONDS * 1000) / READINGS);
    const { perSecond, p99, messages, latency } = await page.evaluate(read);
    const heap = await heapBytes();
    await page.evaluate(() => (globalThis.frames.length = 0));
    const at = Math.round((SECONDS * reading) / READINGS);
    rows.push({ at, perSecond, heap });
    console.log(`${at} s: ${perSecond.toFixed(1)} frames/s, 99 % within ${p99.toFixed(0)} ms, ${messages} messages/s, latency p99 ${latency} ms, heap ${(heap / 1e6).toFixed(1)} MB`);
  }
  const slowest = Math.min(...rows.map(({ perSecond }) => perSecond));
  const full = rows.filter(({ at }) => at >= FULL_S);
  const growth = full.length > 1 ? full.at(-1).heap / full[0].heap : NaN;
  console.log(`slowest: ${slowest.toFixed(1)} frames/s (at least ${FRAMES_MIN}); heap after ${FULL_S} s: times ${growth.toFixed(2)} (at most ${GROWTH_MAX})`);
  process.exitCode = slowest >= FRAMES_MIN && !(growth > GROWTH_MAX) ? 0 : 1;
} finally {
  await browser.close();
  await stop(server);
}
