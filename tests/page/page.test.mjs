/**
 * The page's promises, kept in a real headless Chromium against the real server with its simulated market.
 *
 * Run by tests/page.rs, which sets SERVER_BINARY to the server's binary; CHROMIUM may name another browser.
 * Every assertion waits for its condition up to DEADLINE_MS: a slow machine is no failure.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, request as httpRequest } from "node:http";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";

import { chromium } from "playwright-core";

const DEADLINE_MS = 30_000;
/** Nobody may look at an old price that seems current for longer than this. */
const HONESTY_MS = 5_000;
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

let server;
let browser;

/** Starts the server and waits until it says where it listens. */
async function start(listen) {
  // Settings of the person who runs the tests are not the test's; the server refuses unknown ones.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("FANLINE_")));
  const options = { env, stdio: ["ignore", "pipe", "inherit"] };
  const child = spawn(process.env.SERVER_BINARY, ["--listen", listen], options);
  for await (const line of createInterface(child.stdout)) {
    const url = /^fanline listening on (http:\S+)/.exec(line)?.[1];
    if (!url) continue;
    child.stdout.resume();
    return { child, url, listen: new URL(url).host };
  }
  throw new Error("expected the line `fanline listening on http://…`, found the end of the server's output");
}

async function stop({ child }) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await once(child, "exit");
}

/** Opens the page; whatever it complains about is collected in `complaints`. */
async function open(options = {}, path = "/") {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(DEADLINE_MS);
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("requestfailed", (request) => complaints.push(`failed: ${request.url()}`));
  page.on("console", (message) => {
    // That a WebSocket could not be opened is what a test with a killed server is about; browsers log it as an error.
    const outage = /^WebSocket connection to .* failed/.test(message.text());
    if (["error", "warning"].includes(message.type()) && !outage) complaints.push(message.text());
  });
  await page.goto(new URL(path, server.url).href);
  return { page, complaints, close: () => context.close() };
}

/** Waits until `condition(argument)` holds in the page, and says what was waited for if it never does. */
async function until(page, what, condition, argument, timeout = DEADLINE_MS) {
  try {
    await page.waitForFunction(condition, argument, { timeout });
  } catch (error) {
    const seen = await page.locator("body").innerText();
    throw new Error(`expected within ${timeout} ms: ${what}; found:\n${seen.slice(0, 1500)}`, { cause: error });
  }
}

/** Waits until at least `count` topics have another value than now, all of them marked as current. */
async function untilValuesChange(page, count) {
  const read = () => {
    const rows = [...document.querySelectorAll("#rows tr")];
    return Object.fromEntries(rows.map((tr) => [tr.dataset.topic, tr.querySelector(".c-value").textContent]));
  };
  const before = await page.evaluate(read);
  const changed = ({ before, count }) => {
    const rows = [...document.querySelectorAll('#rows tr[data-confidence="current"]')];
    const moved = rows.filter((tr) => tr.querySelector(".c-value").textContent !== before[tr.dataset.topic]);
    return moved.length >= count;
  };
  await until(page, `${count} topics change their values`, changed, { before, count });
}

const topics = (page) => page.locator("#rows tr").evaluateAll((rows) => rows.map((tr) => tr.dataset.topic));

before(async () => {
  server = await start("127.0.0.1:0");
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
});

after(async () => {
  await browser?.close();
  if (server) await stop(server);
});

test("values change, state, rates and latency are shown, nothing complains", async () => {
  const { page, complaints, close } = await open();
  await until(page, "rows", () => document.querySelectorAll("#rows tr").length >= 3);
  await untilValuesChange(page, 3);
  await until(page, "an open connection and a live feed", () => {
    const { connection, feed } = document.body.dataset;
    return connection === "open" && feed === "live";
  });
  for (const id of ["meter-median", "meter-p99", "meter-messages", "meter-bytes", "meter-topics"]) {
    await until(page, `a number in ${id}`, (id) => /^\d+(\.\d+)?$/.test(document.getElementById(id).textContent), id);
  }
  await until(page, "a latency that can be true", () => {
    const [median, p99] = ["meter-median", "meter-p99"].map((id) => Number(document.getElementById(id).textContent));
    return median <= p99 && p99 < 60_000;
  });
  await until(page, "a chart of the selected topic", () => document.querySelector("#chart canvas")?.width > 100);
  const drawn = () =>
    [...document.querySelectorAll("#rows canvas")].some((canvas) => {
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      return pixels.some((value) => value > 0);
    });
  await until(page, "a sparkline", drawn);
  assert.deepEqual(complaints, []);
  await close();
});

test("the filter box becomes a subscription", async () => {
  const { page, complaints, close } = await open();
  await until(page, "topics of several kinds", () => {
    const kinds = [...document.querySelectorAll("#rows tr")].map((tr) => tr.dataset.topic.split(".")[0]);
    return new Set(kinds).size > 1;
  });
  await page.fill("#filter", "trade.*");
  const onlyTrades = () => {
    const rows = [...document.querySelectorAll("#rows tr")];
    return rows.length > 0 && rows.every((tr) => tr.dataset.topic.startsWith("trade."));
  };
  await until(page, "rows of trade.* and no others", onlyTrades);
  await untilValuesChange(page, 2);
  assert.ok((await topics(page)).every((topic) => topic.startsWith("trade.")));
  assert.match(page.url(), /topics=trade\.\*/);

  await page.fill("#filter", "trade..");
  await until(page, "the reason why `trade..` is no pattern", () => {
    const hint = document.getElementById("filter-hint").textContent;
    return document.getElementById("filter").ariaInvalid === "true" && hint.includes("empty token");
  });
  assert.ok((await topics(page)).length > 0, "a wrong pattern changes nothing");

  const everything = () => document.querySelector('#rows tr:not([data-topic^="trade."])');
  await page.fill("#filter", ">");
  await until(page, "everything again", everything);
  await page.fill("#filter", "aapl");
  await until(page, "the topics that contain `aapl`, found by a part of their name", () => {
    const rows = [...document.querySelectorAll("#rows tr")].map((tr) => tr.dataset.topic);
    const hint = document.getElementById("filter-hint").textContent;
    return rows.length === 2 && rows.every((topic) => topic.endsWith(".AAPL")) && hint.includes("*.*AAPL*");
  });
  await page.fill("#filter", "");
  await until(page, "everything, for an empty box", everything);
  assert.equal(await page.locator("#filter").getAttribute("aria-invalid"), "false");
  assert.deepEqual(complaints, []);
  await close();
});

test("invented prices, and those of another server, are said to be so", async () => {
  const own = await open();
  await own.page.locator("#simulated").waitFor();
  assert.match(await own.page.locator("#simulated").innerText(), /Simulated prices/);
  assert.equal(await own.page.locator("#foreign").isVisible(), false);
  await own.close();
  const other = `localhost:${new URL(server.url).port}`;
  const { page, close } = await open({}, `/?server=${encodeURIComponent(`ws://${other}/v1/ws`)}`);
  await page.locator("#foreign").waitFor();
  assert.ok((await page.locator("#foreign").innerText()).includes(other));
  await untilValuesChange(page, 2);
  await page.locator("#simulated").waitFor();
  await close();
});

/** A proxy that shows the server below a path of its own, and takes that path away. */
async function proxyBelow(prefix) {
  const ask = (request) => {
    const { hostname, port } = new URL(server.url);
    const path = request.url.startsWith(`${prefix}/`) ? request.url.slice(prefix.length) : "/not-below-the-prefix";
    return httpRequest({ hostname, port, path, method: request.method, headers: request.headers });
  };
  const proxy = createServer((request, response) => {
    ask(request)
      .on("response", (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      })
      .end();
  });
  proxy.on("upgrade", (request, socket) => {
    const upstream = ask(request);
    upstream.on("upgrade", (answer, far, head) => {
      const lines = answer.rawHeaders.flatMap((name, i, all) => (i % 2 ? [] : [`${name}: ${all[i + 1]}`]));
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join("\r\n")}\r\n\r\n`);
      socket.write(head);
      far.pipe(socket).pipe(far);
      for (const end of [far, socket]) end.on("error", () => [far, socket].forEach((each) => each.destroy()));
    });
    upstream.end();
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  return { url: `http://127.0.0.1:${proxy.address().port}${prefix}/`, close: () => proxy.close() };
}

test("it works below a path of a proxy, links included", async () => {
  const proxy = await proxyBelow("/market/data");
  const { page, complaints, close } = await open({}, proxy.url);
  await untilValuesChange(page, 3);
  await until(page, "a chart of the selected topic", () => document.querySelector("#chart canvas")?.width > 100);
  const links = await page.locator("footer a").evaluateAll((all) => all.map(({ href }) => href));
  assert.ok(links.length >= 4);
  for (const link of links) {
    assert.ok(link.startsWith(proxy.url), link);
    assert.equal((await fetch(link)).status, 200, link);
  }
  assert.deepEqual(complaints, []);
  await close();
  proxy.close();
});

/** Whether the page says that nothing is current, and no row in sight looks as if it were. */
const honest = () => {
  const rows = [...document.querySelectorAll("#rows tr")];
  const visible = rows.filter((tr) => tr.getBoundingClientRect().top < innerHeight);
  const struck = (tr) => getComputedStyle(tr.querySelector(".c-value span")).textDecorationLine === "line-through";
  const said = document.getElementById("status").textContent.includes("not current");
  return said && visible.length > 2 && visible.every((tr) => tr.dataset.confidence === "old" && struck(tr));
};

test("a server that is not heard is said within seconds, at once if the browser knows, with how late the values are", async () => {
  const { page, complaints, close } = await open();
  await untilValuesChange(page, 3);
  server.child.kill("SIGSTOP");
  try {
    await page.evaluate(() => dispatchEvent(new Event("offline")));
    await until(page, "nothing current as soon as the network is said to be gone", honest, undefined, 1_000);
    server.child.kill("SIGCONT");
    await untilValuesChange(page, 3);
    server.child.kill("SIGSTOP");
    await until(page, "nothing current", honest, undefined, HONESTY_MS);
    const text = await page.locator("#banner").innerText();
    assert.match(text, /not heard/);
    assert.match(text, /Late by \d+\.\d s/);
  } finally {
    server.child.kill("SIGCONT");
  }
  await untilValuesChange(page, 3);
  await until(page, "the page says that values are current", () => document.body.dataset.feed === "live");
  assert.deepEqual(complaints, []);
  await close();
});

test("rows that are scrolled into sight after a loss never look current", async () => {
  const { page, close } = await open();
  await until(page, "rows below the screen", () => document.querySelectorAll("#rows tr").length > 100);
  await untilValuesChange(page, 3);
  await stop(server);
  await until(page, "nothing current", honest, undefined, HONESTY_MS);
  const seen = await page.evaluate(async () => {
    const found = new Set();
    for (let top = 0; top < document.body.scrollHeight; top += innerHeight) {
      scrollTo(0, top);
      for (let frame = 0; frame < 3; frame++) {
        for (const tr of document.querySelectorAll("#rows tr")) {
          const { bottom, top } = tr.getBoundingClientRect();
          if (bottom > 0 && top < innerHeight) found.add(tr.dataset.confidence);
        }
        await new Promise(requestAnimationFrame);
      }
    }
    return [...found];
  });
  server = await start(server.listen);
  assert.ok(seen.length > 0 && seen.every((confidence) => ["old", "unseen"].includes(confidence)), seen.join());
  await close();
});

test("a lost server is said at once, values are not current, and it recovers by itself", async () => {
  const { page, complaints, close } = await open();
  await untilValuesChange(page, 3);
  await stop(server);
  await until(page, "a banner, and every value struck out", honest, undefined, HONESTY_MS);
  assert.equal(await page.locator("#connection").textContent(), "lost");
  assert.equal(await page.locator("#meter-median").textContent(), "–");

  server = await start(server.listen);
  await until(page, "the connection open again", () => document.body.dataset.connection === "open");
  await untilValuesChange(page, 3);
  await until(page, "the page says that values are current", () => document.body.dataset.feed === "live");
  assert.deepEqual(complaints, []);
  await close();
});

test("a phone shows it without scrolling sideways", async () => {
  const phone = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
  const { page, complaints, close } = await open(phone);
  await untilValuesChange(page, 2);
  const wide = () => document.documentElement.scrollWidth - document.documentElement.clientWidth;
  assert.equal(await page.evaluate(wide), 0);
  const cut = await page.evaluate(() => {
    const name = document.querySelector("#rows tr .c-topic button");
    name.textContent = "book.a-very-long-name-of-one-token-that-no-phone-shows-in-one-line.PERPETUAL-2027";
    const [row, text] = [name.closest("tr"), document.createRange()];
    text.selectNodeContents(name);
    const [inner, outer] = [text.getBoundingClientRect(), row.getBoundingClientRect()];
    return inner.bottom > outer.bottom + 1 || inner.right > row.cells[1].getBoundingClientRect().left + 1;
  });
  assert.equal(cut, false, "a long name has room");
  assert.equal(await page.evaluate(wide), 0);
  await page.locator("#rows tr").nth(1).tap();
  await until(page, "the sheet of the tapped topic", () => document.querySelector("#chart canvas")?.width > 100);
  assert.equal(await page.evaluate(wide), 0);
  await page.locator("#detail-close").tap();
  await until(page, "the sheet closed", () => document.getElementById("detail").hidden);
  assert.deepEqual(complaints, []);
  await close();
});

test("dark and light differ, and both can be read", async () => {
  const seen = {};
  for (const colorScheme of ["light", "dark"]) {
    const { page, close } = await open({ colorScheme });
    await until(page, "rows", () => document.querySelectorAll("#rows tr").length > 0);
    seen[colorScheme] = await page.evaluate(() => {
      const luminance = (colour) => {
        const parts = colour.match(/[\d.]+/g).slice(0, 3).map((part) => part / 255);
        const [r, g, b] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const style = (element) => getComputedStyle(element);
      const ground = luminance(style(document.querySelector("table")).backgroundColor);
      const ink = luminance(style(document.querySelector("#rows .c-topic button")).color);
      return { ground, contrast: (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05) };
    });
    await close();
  }
  assert.ok(seen.light.ground > 0.8 && seen.dark.ground < 0.05, JSON.stringify(seen));
  for (const { contrast } of Object.values(seen)) assert.ok(contrast >= 7, JSON.stringify(seen));
});
