/**
 * The transports `longpoll` and `poll`: one answer after the other, each with what is new since the one before.
 *
 * @module poll
 */

import { CALM_MS, pause, readAnswer, Session } from "./http.js";

/** How long a long poll waits, and how long there is between plain polls. */
const WAIT_MS = 25_000;
const POLL_MS = 2_000;
/** What a poll may take longer than the server holds it back. */
const SLACK_MS = 2_000;
/** The first answer comes soon, whatever there is: it shows that this way works. */
const FIRST_WAIT_MS = 1_000;
/** The server gathers for 200 ms, and an answer takes a round trip. */
const GATHER_MS = 1_000;

/** @typedef {import("./link.js").Settings} Settings */

/** @type {import("./websocket.js").Transport} */
export const longpoll = {
  name: "longpoll",
  late_ms: () => GATHER_MS,
  open: (request) => new Session(request, timesOf(request.options).wait_ms / 2 + SLACK_MS, (session, signal) => poll(session, signal, true)),
};

/** @type {import("./websocket.js").Transport} */
const plain = {
  name: "poll",
  late_ms: (options) => timesOf(options).poll_ms + GATHER_MS,
  open: (request) => new Session(request, timesOf(request.options).poll_ms / 2 + SLACK_MS, (session, signal) => poll(session, signal, false)),
};

export { plain as poll };

/** @param {Settings} options */
function timesOf({ wait_ms = WAIT_MS, poll_ms = POLL_MS }) {
  return { wait_ms, poll_ms };
}

/** @param {Session} session @param {AbortSignal} signal @param {boolean} waits */
async function poll(session, signal, waits) {
  const { clock } = session.options;
  const { wait_ms, poll_ms } = timesOf(session.options);
  for (let isFirst = true; !signal.aborted; isFirst = false) {
    const { received } = session;
    const askedAt = clock();
    const wait = isFirst ? Math.min(wait_ms, FIRST_WAIT_MS) : wait_ms;
    const query = { since: received, wait_ms: waits ? wait : undefined };
    const response = await session.fetch(session.pollUrl(session.topics, query), signal);
    const text = await response.text();
    if (signal.aborted) return;
    const isBehind = response.status === 204 ? nothing(session, response, isFirst) : take(session, response, text, isFirst);
    const isNew = session.received !== received;
    if (!waits && !(isNew && isBehind)) await pause(poll_ms, signal);
    else if (!isNew) await pause(askedAt + Math.min(wait, CALM_MS) - clock(), signal);
  }
}

/** There is nothing new, and no more. @param {Session} session @param {Response} response @param {boolean} isFirst */
function nothing(session, { headers }, isFirst) {
  const next = headers.get("fanline-next") ?? session.received ?? "";
  const [epoch, digits] = next.split(":");
  const offset = Number(digits);
  session.received = next;
  session.streams();
  session.greet({ epoch, offset, delay_ms: null });
  if (isFirst) session.subscribed(offset);
  const state = headers.get("fanline-feed");
  if (state) session.feed({ state });
  session.say({ op: "heartbeat", offset });
  return false;
}

/** Returns whether there is more. @param {Session} session @param {Response} response @param {string} text @param {boolean} isFirst */
function take(session, { headers }, text, isFirst) {
  const answer = readAnswer(text);
  const { epoch, offset, next, caught_up, skipped, feed, simulated, messages } = answer;
  const isAnew = session.greet(answer, { simulated });
  if (isFirst || isAnew) session.subscribed(offset);
  if (skipped) session.say({ op: "skipped", ...skipped });
  for (const { text } of messages) session.hear(text);
  if (feed) session.feed(feed);
  session.received = next ?? `${epoch}:${offset}`;
  session.streams();
  const isBehind = caught_up === false;
  session.say({ op: "heartbeat", offset: isBehind ? 0 : offset, age_ms: 1000 * Number(headers.get("age")) });
  return isBehind;
}
