/**
 * What the table of topics promises, kept in a real headless Chromium against the real server with its simulated market.
 *
 * Run by tests/clients/page.rs, which names the binary and the browser (kit.mjs).
 */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, request as httpRequest } from "node:http";
import { after, before, test } from "node:test";

import { launch, open as openPage, PHONE, start, stop, topicsShown, until, untilText, untilValuesChange } from "./kit.mjs";

/** Nobody may look at an old price that seems current for longer than this. */
const HONESTY_MS = 5_000;
/** Sooner than silence alone would show it. */
const HINTED_MS = 3_000;

let server;
let browser;

const open = (options, path = "/") => openPage(browser, new URL(path, server.url).href, options);

before(async () => {
  [server, browser] = await Promise.all([start(), launch()]);
});

after(async () => {
  await browser?.close();
  if (server) await stop(server);
});

test("values change, state, rates and latency are shown, nothing complains", async () => {
  const { page, complaints, close } = await open();
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
  const drawn = () =>
    [...document.querySelectorAll("#rows canvas")].some((canvas) => {
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      return pixels.some((value) => value > 0);
    });
  await until(page, "a sparkline", drawn);
  assert.deepEqual(complaints, []);
  await close();
});

/** Waits until the table has so many rows, those out of sight included. */
const untilCount = (page, count) => {
  const counted = (count) => document.getElementById("table").getAttribute("aria-rowcount") === String(count + 1);
  return until(page, `${count} rows`, counted, count);
};

test("the box is a subscription and a search", async () => {
  const { page, complaints, close } = await open();
  await untilCount(page, 120);
  await page.fill("#filter", "trade.*");
  await untilCount(page, 60);
  await untilValuesChange(page, 2);
  assert.ok((await topicsShown(page)).every((topic) => topic.startsWith("trade.")));
  assert.match(page.url(), /#\/topics\?topics=trade\.\*$/);

  await page.fill("#filter", "trade..");
  await until(page, "the reason why `trade..` is no pattern", () => {
    const hint = document.getElementById("filter-hint").textContent;
    return document.getElementById("filter").ariaInvalid === "true" && hint.includes("empty token");
  });
  assert.ok((await topicsShown(page)).length > 0, "a wrong pattern changes nothing");

  await page.fill("#filter", ">");
  await untilCount(page, 120);
  await page.fill("#filter", "aapl");
  await untilCount(page, 2);
  assert.deepEqual(await topicsShown(page), ["quote.AAPL", "trade.AAPL"]);
  assert.match(await page.locator("#filter-hint").innerText(), /\*\.\*AAPL\*/);
  await page.fill("#filter", "");
  await untilCount(page, 120);
  assert.equal(await page.locator("#filter").getAttribute("aria-invalid"), "false");
  assert.deepEqual(complaints, []);
  await close();
});

test("an address of before, with topics in its query, still opens", async () => {
  const { page, close } = await open({}, "/?topics=quote.V,trade.V");
  await untilCount(page, 2);
  assert.deepEqual(await topicsShown(page), ["quote.V", "trade.V"]);
  await close();
});

test("only rows in sight have elements, wherever one scrolls", async () => {
  const { page, complaints, close } = await open({}, "/#/topics?sort=-topic");
  await untilCount(page, 120);
  const last = () => [...document.querySelectorAll("#rows .row")].at(-1)?.dataset.topic;
  await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
  await until(page, "the last row", (topic) => document.querySelector(`#rows [data-topic="${topic}"]`), "quote.AAPL");
  assert.equal(await page.evaluate(last), "quote.AAPL", "elements are in the order in which they are read");
  assert.ok((await page.locator("#rows .row").count()) < 60);
  assert.deepEqual(complaints, []);
  await close();
});

test("pins stay on top, groups fold, and the address holds them", async () => {
  const { page, close } = await open({}, "/#/topics?topics=*.AAPL,*.V&pins=trade.SPY&group=1");
  await until(page, "groups", () => document.querySelectorAll("#rows .group").length === 2);
  const rows = () => page.locator("#rows .row").evaluateAll((all) => all.map(({ dataset }) => dataset.topic ?? dataset.group));
  assert.deepEqual(await rows(), ["trade.SPY", "quote", "quote.AAPL", "quote.V", "trade", "trade.AAPL", "trade.V"]);
  await page.locator("#rows .group-name").first().click();
  await until(page, "a folded group", () => document.querySelectorAll("#rows .row").length === 5);
  await page.locator('#rows [data-topic="trade.V"]').hover();
  await page.locator('#rows [data-topic="trade.V"] .pin').click();
  await until(page, "the pin in the address", () => location.hash.includes("pins=trade.SPY,trade.V"));
  await until(page, "two pins on top", () => document.querySelectorAll('#rows .pin[aria-pressed="true"]').length === 2);
  assert.deepEqual(await rows(), ["trade.SPY", "trade.V", "quote", "trade", "trade.AAPL"]);
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
  await page.goto(`${proxy.url}#/topic/quote.AAPL`);
  await until(page, "a chart of the topic", () => document.querySelector("#chart canvas")?.width > 100);
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
  const rows = [...document.querySelectorAll("#rows .row")];
  const visible = rows.filter((row) => row.getBoundingClientRect().top < innerHeight);
  const struck = (row) => getComputedStyle(row.querySelector(".c-value span")).textDecorationLine === "line-through";
  const said = document.getElementById("status").textContent.includes("not current");
  return said && visible.length > 2 && visible.every((row) => row.dataset.confidence === "old" && struck(row));
};

test("a server that is not heard is said within seconds, at once if the browser knows, with how late the values are", async () => {
  const { page, complaints, close } = await open();
  await untilValuesChange(page, 3);
  server.child.kill("SIGSTOP");
  try {
    await page.evaluate(() => dispatchEvent(new Event("offline")));
    await until(page, "nothing current as soon as the network is said to be gone", honest, undefined, HINTED_MS);
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
  await untilCount(page, 120);
  await untilValuesChange(page, 3);
  await stop(server);
  await until(page, "nothing current", honest, undefined, HONESTY_MS);
  const seen = await page.evaluate(async () => {
    const found = new Set();
    for (let top = 0; top < document.body.scrollHeight; top += innerHeight) {
      scrollTo(0, top);
      for (let frame = 0; frame < 3; frame++) {
        for (const row of document.querySelectorAll("#rows .row")) {
          const { bottom, top } = row.getBoundingClientRect();
          if (bottom > 0 && top < innerHeight) found.add(row.dataset.confidence);
        }
        await new Promise(requestAnimationFrame);
      }
    }
    return [...found];
  });
  server = await start("--listen", server.listen);
  assert.ok(seen.length > 0 && seen.every((confidence) => ["old", "unseen"].includes(confidence)), seen.join());
  await close();
});

test("a lost server is said at once, values are not current, and it recovers by itself", async () => {
  const { page, complaints, close } = await open();
  await untilValuesChange(page, 3);
  await stop(server);
  await until(page, "a banner, and every value struck out", honest, undefined, HONESTY_MS);
  assert.equal(await page.locator("#connection").textContent(), "lost");
  await untilText(page, "#meter-median", /^–$/); // it is written once a second

  server = await start("--listen", server.listen);
  await until(page, "the connection open again", () => document.body.dataset.connection === "open");
  await untilValuesChange(page, 3);
  await until(page, "the page says that values are current", () => document.body.dataset.feed === "live");
  assert.deepEqual(complaints, []);
  await close();
});

test("a phone shows it without scrolling sideways", async () => {
  const { page, complaints, close } = await open(PHONE);
  await untilValuesChange(page, 2);
  const wide = () => document.documentElement.scrollWidth - document.documentElement.clientWidth;
  assert.equal(await page.evaluate(wide), 0);
  const outside = await page.evaluate(() => {
    const name = document.querySelector("#rows .name");
    name.textContent = "book.a-very-long-name-of-one-token-that-no-phone-shows-in-one-line.PERPETUAL-2027";
    const [inner, outer] = [name.getBoundingClientRect(), name.closest(".row").getBoundingClientRect()];
    return inner.bottom > outer.bottom + 1 || inner.right > name.closest(".row").children[1].getBoundingClientRect().left + 1;
  });
  assert.equal(outside, false, "a long name stays in its cell");
  await page.locator("#rows .row").nth(1).tap();
  await until(page, "the view of the tapped topic", () => document.querySelector("#chart canvas")?.width > 100);
  assert.equal(await page.locator("#topics-view").isVisible(), false);
  assert.equal(await page.evaluate(wide), 0);
  await page.locator(".back").tap();
  await until(page, "the table again", () => document.querySelector("#rows .row")?.checkVisibility());
  for (const view of ["health", "use"]) {
    await page.locator(`[data-view-link=${view}]`).first().tap();
    await until(page, view, (view) => document.getElementById(view).checkVisibility(), view);
    assert.equal(await page.evaluate(wide), 0, view);
  }
  assert.deepEqual(complaints, []);
  await close();
});
