/**
 * What a case expects of a client.
 *
 * Frames are taken one after the other: the next one is the one that is expected. Other events are taken up to the first
 * that fits, so a case names those it is about.
 *
 * @module runner/expectations
 */

import { EXPECT_MS, Failure, fits, shown } from "./match.mjs";

const EVENTS = ["state", "subscription", "notice", "question", "answered", "failed", "closed", "threw"];
const RECORDS = { asked: "asked", attempt: "attempts", command: "commands" };
/** How often a client is asked again what it says of a topic. */
const LOOK_MS = 40;
const QUIET_MS = 300;

/** @param {import("./case_run.mjs").CaseRun} run @param {object} step @param {string} as */
export async function expectations(run, { expect, ...members }, as) {
  if (expect === "frame") return expectFrame(run, members, as);
  if (expect === "frames") return expectFrames(run, members, as);
  if (expect === "none") return expectNone(run, members, as);
  if (expect === "look") return expectLook(run, members, as);
  if (expect === "count") return expectCount(run, members, as);
  if (expect === "jitter") return expectJitter(run, members);
  if (expect === "spread") return expectSpread(run, members);
  if (expect === "next") return expectNext(run, members, as);
  if (expect === "shown") return expectRecord(run, run.server.credentials.shown, "shown", members);
  if (RECORDS[expect]) return expectRecord(run, run.server[RECORDS[expect]], expect, members);
  if (EVENTS.includes(expect)) return expectEvent(run, expect, members, as);
  throw new Failure(`there is nothing called \`${expect}\` to expect`);
}

/** On polls nobody can tell what is replayed from what is new. */
function wantedFrame(run, { live, ...wanted }) {
  return /poll/.test(run.transport) || live === undefined ? wanted : { ...wanted, live };
}

const superseded = new WeakMap();

async function expectFrame(run, { subscription = "s", superseded: isSuperseded, ...rest }, as) {
  const record = run.record(as);
  const queue = record.untaken("frame", subscription);
  const wanted = wantedFrame(run, rest);
  const waiting = superseded.get(queue) ?? [];
  superseded.set(queue, waiting);
  // A client that polls sees the newest of what was published between two polls.
  if (isSuperseded && run.transport === "poll") return void waiting.push(wanted);
  const told = () => `expected of \`${subscription}\` the frame ${shown(wanted)}, found ${shown(queue[0])}; ${context(run, record)}`;
  const found = await run.until(() => {
    while (queue.length && waiting.length && !fits(queue[0], wanted) && waiting.some((one) => fits(queue[0], one))) queue.shift();
    return queue[0];
  }, told);
  if (!fits(found, wanted)) throw new Failure(told());
  queue.shift();
  waiting.length = 0;
  return undefined;
}

async function expectFrames(run, { offsets, from, to, ...rest }, as) {
  const wanted = offsets ?? Array.from({ length: to - from + 1 }, (_, i) => from + i);
  for (const [i, offset] of wanted.entries()) {
    await expectFrame(run, { ...rest, offset, superseded: i < wanted.length - 1 }, as);
  }
}

/** Polls are told notes in answers, so a stream's messages about itself do not come. */
async function expectEvent(run, kind, { subscription, ...wanted }, as) {
  const record = run.record(as);
  const queue = record.untaken(kind, subscription);
  const seen = [];
  const found = await run.until(
    () => {
      while (queue.length) {
        const event = queue.shift();
        if (fits(event, wanted)) return event;
        seen.push(event);
      }
      return undefined;
    },
    () => `expected the ${kind} ${shown(wanted)}, found ${seen.length ? shown(seen.map(brief)) : "none"}; ${context(run, record)}`,
  );
  if (kind === "question") run.question = found;
}

/** The next event of the kind that has these members has the others, too. */
async function expectNext(run, { of, has, ...wanted }, as) {
  const record = run.record(as);
  const queue = record.untaken(of, wanted.subscription);
  const told = (found) => `expected that the next ${of} ${shown(wanted)} has ${shown(has)}, found ${shown(found)}; ${context(run, record)}`;
  const found = await run.until(
    () => {
      while (queue.length) {
        const event = queue.shift();
        if (fits(event, wanted)) return event;
      }
      return undefined;
    },
    () => told(undefined),
  );
  if (!fits(found, has)) throw new Failure(told(brief(found)));
}

const taken = new WeakMap();

async function expectRecord(run, entries, kind, wanted) {
  const begin = taken.get(entries) ?? 0;
  let at = begin;
  await run.until(
    () => {
      while (at < entries.length) if (fits(entries[at++], wanted)) return true;
      return undefined;
    },
    () => `expected that the client does: ${kind} ${shown(wanted)}; found ${shown(entries.slice(begin).map(briefRecord))}; ${context(run, run.record())}`,
  );
  taken.set(entries, at);
}

/** Nothing of this kind happens for a while, nor has since the last that was taken. */
async function expectNone(run, { of, ms = QUIET_MS, subscription = "s", ...wanted }, as) {
  const entries = of === "shown" ? run.server.credentials.shown : RECORDS[of] && run.server[RECORDS[of]];
  const begin = entries && (taken.get(entries) ?? 0);
  const queue = entries ?? run.record(as).untaken(of, subscription);
  const look = () => (entries ? entries.slice(begin) : queue).find((event) => fits(event, wanted));
  const deadline = Date.now() + ms;
  while (Date.now() < deadline) {
    const found = look();
    if (found) throw new Failure(`expected no ${of} ${shown(wanted)} for ${ms} ms, found ${shown(entries ? briefRecord(found) : found)}; ${context(run, run.record(as))}`);
    await run.woken(deadline - Date.now());
  }
}

async function expectLook(run, { topic, once = false, ...wanted }, as) {
  const record = run.record(as);
  let seen;
  for (let i = 0; ; i++) {
    const look = `${i}:${topic}:${record.events.length}`;
    run.command("look", { look, topic }, as);
    seen = await run.until(
      () => record.events.findLast((event) => event.event === "looked" && event.look === look),
      () => "expected `looked`, found nothing",
    );
    if (fits(seen, wanted)) return;
    if (once || i * LOOK_MS > (run.test.deadline_ms ?? EXPECT_MS)) break;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  throw new Failure(`expected the client to say of \`${topic}\` ${shown(wanted)}, found ${shown(brief(seen))}; ${context(run, record)}`);
}

/** How many there were in all, so far. */
async function expectCount(run, { of, is, at_most = is ?? Infinity, at_least = is ?? 0, ...wanted }, as) {
  const entries = of === "shown" ? run.server.credentials.shown : RECORDS[of] ? run.server[RECORDS[of]] : run.record(as).events.filter(({ event }) => event === of);
  const found = entries.filter((entry) => fits(entry, wanted)).length;
  if (found > at_most || found < at_least) {
    throw new Failure(`expected ${at_least} to ${at_most} times ${of} ${shown(wanted)}, found ${found}; ${context(run, run.record(as))}`);
  }
}

/** The next so many of the kind take at least so long in all, from the first to the last. */
async function expectSpread(run, { of, count, ms }) {
  const entries = run.server[RECORDS[of]];
  const begin = entries.length;
  await run.until(() => entries.length >= begin + count, () => `expected ${count} times ${of}, found ${entries.length - begin}; ${context(run, run.record())}`);
  const took = entries[begin + count - 1].at - entries[begin].at;
  if (took < ms) throw new Failure(`expected that ${count} times ${of} take ${ms} ms at least, found ${took} ms; ${context(run, run.record())}`);
}

/** Of so many delays, all under one bound, the shortest is well below the longest. */
async function expectJitter(run, { attempts }) {
  const delays = () => run.server.attempts.slice(1).map(({ after_ms }) => after_ms);
  await run.until(() => delays().length >= attempts, () => `expected ${attempts} attempts, found ${delays().length}`);
  const [least, most] = [Math.min(...delays()), Math.max(...delays())];
  if (least > 0.8 * most) throw new Failure(`expected delays that differ, found ${delays().join(", ")} ms`);
}

function brief({ event: _, client: __, at: ___, look: ____, ...rest }) {
  return rest;
}

function briefRecord({ session: _, attempt: __, headers: ___, ...rest }) {
  return rest;
}

/** The last things that happened, for whoever reads the failure. */
function context(run, record) {
  const last = record.events.filter(({ event }) => event !== "looked" && event !== "synced").slice(-4).map(({ client: _, at: __, ...rest }) => rest);
  const { attempts } = run.server;
  const told = attempts.slice(-9).map(({ transport, query, at }) => `${transport} ${shown(query)} at ${at - attempts[0].at} ms`);
  return `last events ${shown(last)}; ${attempts.length} attempts, the last ${told.join(", ") || "none"}`;
}
