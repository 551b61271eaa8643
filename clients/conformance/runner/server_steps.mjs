/**
 * What a case has the fake server do.
 *
 * @module runner/server_steps
 */

import { Failure } from "./match.mjs";

/** The newest stream; steps about a stream wait until there is one. */
async function session(run) {
  return run.until(() => run.server.session, () => "expected an open stream, found none");
}

const STEPS = {
  publish: (run, { count = 1, ...frame }) => {
    for (let i = 0; i < count; i++) run.server.publish(count > 1 ? { ...frame, data: i } : frame);
  },
  /** A topic status: `op`, `topic`. */
  status: (run, message) => run.server.status(message),
  /** The state of the feed: `stale` with a reason, or null. */
  feed: (run, { stale }) => run.server.feedState(stale),
  leap: (run, { offsets }) => run.server.feed.leap(offsets),
  /** The ring forgets what is before `oldest`. */
  expire: (run, { oldest }) => {
    run.server.feed.oldest = oldest;
  },
  restart: (run) => {
    run.epochs.push(run.server.feed.epoch);
    run.server.cut();
    run.server.feed.restart();
  },
  rule: (run, { on, times, plan }) => run.server.rule({ on, times: times === "always" ? Infinity : times, plan }),
  clear: (run) => run.server.clearRules(),
  cut: (run, { how }) => run.server.cut(how),
  mute: (run) => run.server.mute(),
  silent: (run, { ops }) => {
    run.server.silent = new Set(ops);
  },
  settings: (run, { change }) => Object.assign(run.server.settings, change),
  kill_token: (run, { token }) => run.server.credentials.kill(token),
  say: async (run, { message }) => (await session(run)).say(message),
  text: async (run, { text }) => (await session(run)).text(text),
  /** Bytes inside the stream, as they are. */
  raw: async (run, { raw, base64 }) => (await session(run)).wire.raw(base64 ? Buffer.from(base64, "base64") : raw),
  /** Half of a message, and then the end. */
  half: async (run, { text, how }) => {
    const it = await session(run);
    it.wire.half(text);
    setTimeout(() => run.server.cut(how), 20);
  },
  close: async (run, { code, reason }) => (await session(run)).close(code, reason),
  drip: async (run) => (await session(run)).outlet.drip(),
  hold_values: async (run) => {
    (await session(run)).holdsValues = true;
  },
};

/** @param {import("./case_run.mjs").CaseRun} run */
export async function serverSteps(run, { server, ...members }) {
  if (!STEPS[server]) throw new Failure(`there is no step \`${server}\` of the server`);
  await STEPS[server](run, members);
}
