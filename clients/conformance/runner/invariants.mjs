/**
 * What holds in every case, whatever its steps are.
 *
 * @module runner/invariants
 */

import { covers } from "../server/pattern.mjs";

/** The table of docs and README: from which state to which. */
const NEXT = {
  "": ["idle", "connecting", "open", "waiting", "offline", "closed"],
  idle: ["connecting", "closed"],
  connecting: ["connecting", "open", "waiting", "offline", "closed"],
  open: ["open", "connecting", "waiting", "offline", "closed"],
  waiting: ["connecting", "offline", "waiting", "closed"],
  offline: ["connecting", "waiting", "closed"],
  closed: [],
};
const SUBSCRIPTION_STATES = ["pending", "live", "delayed", "stale", "refused", "ended"];
/** What is on its way when the client says that it has ended. */
const AFTERMATH_MS = 100;

/**
 * Sentences about what a client must never do, and did.
 * @param {import("./record.mjs").Record} record
 * @param {Map<string, {topics: string[], endedAt?: number}>} subscriptions with the place in the record after which they are over
 * @param {number} restarts of the server, at each of which offsets begin again
 */
export function violations(record, subscriptions, restarts) {
  return [...states(record), ...ends(record), ...frames(record, subscriptions, restarts)];
}

function* states({ events }) {
  let [state, transport] = ["", ""];
  for (const event of events) {
    if (event.event === "subscription" && !SUBSCRIPTION_STATES.includes(event.state)) {
      yield `a subscription is ${SUBSCRIPTION_STATES.join(", ")}, found \`${event.state}\``;
    }
    if (event.event !== "state") continue;
    if (!NEXT[state]?.includes(event.state)) yield `after \`${state}\` comes ${NEXT[state]?.join(" or ")}, found \`${event.state}\``;
    const isRepeated = state === event.state && (state === "waiting" || (state === "open" && transport === event.transport));
    if (isRepeated) yield `a state is said when it changes, found \`${state}\` twice`;
    [state, transport] = [event.state, event.transport ?? transport];
  }
}

function* ends({ events }) {
  const closed = events.filter(({ event }) => event === "closed");
  if (closed.length > 1) yield `a client ends once, found \`closed\` ${closed.length} times`;
  if (!closed.length) return;
  for (const event of events.slice(events.indexOf(closed[0]) + 1)) {
    const isLate = event.event === "frame" || event.event === "notice" || (event.event === "state" && event.state !== "closed");
    if (isLate) yield `nothing comes after the end, found ${JSON.stringify(event).slice(0, 200)}`;
  }
  const last = events.filter(({ event }) => event === "state").at(-1);
  if (last && last.state !== "closed") yield `a client that has ended is \`closed\`, found \`${last.state}\``;
}

function* frames({ events }, subscriptions, restarts) {
  const newest = new Map();
  const begun = new Map();
  for (const [i, event] of events.entries()) {
    const startsAnew = event.event === "notice" && (event.op === "view" || event.reason === "epoch" || event.reason === "delayed");
    if (startsAnew) newest.clear();
    if (event.event !== "frame") continue;
    const { subscription, topic, offset } = event;
    if (typeof topic !== "string" || typeof offset !== "number" || typeof event.ts !== "number") {
      yield `a frame has topic, offset and ts, found ${JSON.stringify(event).slice(0, 200)}`;
      continue;
    }
    const known = subscriptions.get(subscription);
    if (!known) yield `frames name a subscription, found \`${subscription}\``;
    else if (!covers(known.topics, topic)) yield `\`${subscription}\` gets what its patterns match, found \`${topic}\``;
    else if (known.endedAt !== undefined && i >= known.endedAt) yield `a subscription that has ended gets nothing, found offset ${offset}`;
    const key = `${subscription} ${topic}`;
    const before = newest.get(key) ?? 0;
    const beginsAgain = offset <= before && (begun.get(key) ?? 0) < restarts;
    if (beginsAgain) begun.set(key, (begun.get(key) ?? 0) + 1);
    else if (offset <= before) yield `each frame comes once and in order, found \`${topic}\` ${offset} after ${before}`;
    newest.set(key, offset);
  }
}

/** Attempts of a client that has ended. */
export function* attemptsAfterEnd(record, attempts) {
  const closed = record.events.find(({ event }) => event === "closed");
  const late = closed && attempts.find(({ at }) => at > closed.at + AFTERMATH_MS);
  if (late) yield `a client that has ended connects no more, found an attempt by ${late.transport}`;
}
