/**
 * The transports `longpoll` and `poll`: one answer after the other, each with what is new since the one before.
 *
 * @module poll
 */

import { pause, readAnswer, Session } from "./http.js";

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
  open: (request) => new Session(request, request.options.wait_ms / 2 + SLACK_MS, (session, signal) => poll(session, signal, true)),
};

/** @type {import("./websocket.js").Transport} */
const plain = {
  name: "poll",
  late_ms: ({ poll_ms }) => poll_ms + GATHER_MS,
  open: (request) => new Session(request, request.options.poll_ms / 2 + SLACK_MS, (session, signal) => poll(session, signal, false)),
};

export { plain as poll };

/** @param {Session} session @param {AbortSignal} signal @param {boolean} waits */
async function poll(session, signal, waits) {
  const { wait_ms, poll_ms } = session.options;
  for (let isFirst = true, isBehind = true; !signal.aborted; isFirst = false) {
    const { received } = session;
    if (!waits && !isBehind) await pause(poll_ms, signal);
    if (signal.aborted) return;
    const wait = isFirst ? Math.min(wait_ms, FIRST_WAIT_MS) : wait_ms;
    const query = { since: received, wait_ms: waits ? wait : undefined };
    const response = await session.fetch(session.pollUrl(session.topics, query), signal);
    const age_ms = 1000 * Number(response.headers.get("age"));
    const text = await response.text();
    if (signal.aborted) return;
    isBehind = false;
    if (response.status === 204) {
      const next = response.headers.get("fanline-next") ?? received ?? "";
      const [epoch, digits] = next.split(":");
      const offset = Number(digits);
      session.received = next;
      session.streams();
      session.greet(epoch, offset);
      if (isFirst) session.subscribed(offset);
      const state = response.headers.get("fanline-feed");
      if (state) session.feed({ state });
      session.say({ op: "heartbeat", offset });
      continue;
    }
    const answer = readAnswer(text);
    const { epoch, offset, next, caught_up, skipped, feed, simulated, delay_ms } = answer;
    const isAnew = session.greet(epoch, offset, { simulated, delay_ms });
    if (isFirst || isAnew) session.subscribed(offset);
    if (skipped) session.say({ op: "skipped", ...skipped });
    for (const { text } of answer.messages) session.hear(text);
    if (feed) session.feed(feed);
    session.received = next ?? `${epoch}:${offset}`;
    session.streams();
    isBehind = caught_up === false;
    session.say({ op: "heartbeat", offset: isBehind ? 0 : offset, age_ms });
  }
}
