/**
 * `/v1/poll`, `/v1/snapshot` and `/v1/topics` of the fake server.
 *
 * @module server/polls
 */

import { createHash } from "node:crypto";

import { answer, json } from "./http.mjs";
import { covers } from "./pattern.mjs";

/** @typedef {import("./fake_server.mjs").Visit} Visit */

/** What may be outdated of the whole feed, as answers say it. */
function feedState({ stale }) {
  if (!stale) return { state: "live" };
  const { reason, since_ms, message } = stale;
  return { state: reason === "upstream_silent" ? "silent" : "down", reason, since_ms, message };
}

const isStatus = (entry) => entry.op !== undefined;
const list = (entries) => `[${entries.map((entry) => entry.text).join(",")}]`;

function body({ feed, settings }, entries, more) {
  const members = {
    epoch: feed.epoch,
    offset: feed.offset,
    delay_ms: settings.welcome?.delay_ms,
    feed: feedState(feed),
    ...more,
  };
  const frames = list(entries.filter((entry) => !isStatus(entry)));
  return `${JSON.stringify(members).slice(0, -1)},"frames":${frames},"notes":${list(entries.filter(isStatus))}}`;
}

/** @param {Visit} visit */
export function snapshot({ server, socket, request, attempt }) {
  const { feed } = server;
  server.ask(attempt, attempt);
  const entries = feed.current(attempt.topics.length ? attempt.topics : [">"]);
  const told = list(entries) + JSON.stringify(feedState(feed)) + feed.epoch;
  const etag = `W/"${createHash("sha1").update(told).digest("hex").slice(0, 16)}"`;
  const held = (request.headers["if-none-match"] ?? "").split(/\s*,\s*/);
  const headers = { etag, "cache-control": "public, max-age=1, stale-while-revalidate=5" };
  attempt.ifNoneMatch = request.headers["if-none-match"];
  attempt.answered = held.includes(etag) ? 304 : 200;
  if (attempt.answered === 304) server.send(socket, answer(request, 304, headers));
  else server.send(socket, json(request, 200, body(server, entries), headers));
}

/** @param {Visit} visit */
export function topics({ server, socket, request, attempt }) {
  const { epoch, offset, entries } = server.feed;
  const names = new Set(entries.map((entry) => entry.topic).filter((topic) => covers(attempt.topics, topic)));
  server.send(socket, json(request, 200, { epoch, offset, topics: [...names].sort().map((topic) => ({ topic, count: 1 })) }));
}

/** A request for what is new, answered at once or when there is something. @param {Visit} visit */
export function poll(visit) {
  const { server, request, attempt } = visit;
  server.ask(attempt, attempt);
  const wait_ms = Number(request.query.get("wait_ms") ?? 0);
  attempt.feedState = JSON.stringify(feedState(server.feed));
  if (tellNews(visit)) return;
  if (!wait_ms) return tellNothing(visit);
  const parked = {
    visit,
    /** Something was published, or the state of the feed has changed. */
    wake: () => {
      if (parked.gathering) return;
      parked.gathering = setTimeout(() => {
        parked.gathering = undefined;
        if (tellNews(visit)) return leave();
        if (attempt.feedState !== JSON.stringify(feedState(server.feed))) leave(tellNothing(visit));
      }, server.settings.gather_ms ?? 10);
    },
    /** Ends it with what the caller does to the socket. */
    leave: () => leave(),
  };
  const deadline = setTimeout(() => leave(tellNothing(visit)), wait_ms);
  const leave = () => {
    clearTimeout(deadline);
    clearTimeout(parked.gathering);
    visit.socket.off("close", leave);
    server.parked.delete(parked);
  };
  visit.socket.on("close", leave);
  server.parked.add(parked);
}

function tellNews({ server, socket, request, attempt }) {
  const { feed } = server;
  const patterns = attempt.topics.length ? attempt.topics : [">"];
  const max = Number(request.query.get("max") ?? 1000);
  let entries;
  let skipped;
  if (attempt.since === undefined) entries = feed.current(patterns);
  else {
    const from = feed.since(attempt.since, patterns);
    if (from.bad_cursor) return server.send(socket, json(request, 400, { code: "bad_cursor", message: "expected a cursor that the server has given" }));
    ({ entries, skipped } = from);
    if (!entries.length && !skipped) return false;
    if (skipped) skipped = { from: skipped.from, to: skipped.to, reason: skipped.reason };
  }
  const caught_up = attempt.since === undefined || entries.length <= max;
  if (!caught_up) entries = entries.slice(0, max);
  const offset = caught_up ? feed.offset : entries.at(-1).offset;
  const more = { offset, skipped, next: `${feed.epoch}:${offset}`, caught_up };
  const headers = { "cache-control": attempt.since === undefined || skipped ? "public, max-age=2" : "public, max-age=5" };
  attempt.answered = 200;
  server.send(socket, json(request, 200, body(server, entries, more), headers));
  return true;
}

function tellNothing({ server, socket, request, attempt }) {
  const { feed } = server;
  attempt.answered = 204;
  const headers = { "fanline-next": attempt.since ?? `${feed.epoch}:${feed.offset}`, "fanline-feed": feedState(feed).state };
  server.send(socket, answer(request, 204, { ...headers, "cache-control": "no-store" }));
}
