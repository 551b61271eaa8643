/**
 * What a case has the fake server do.
 *
 * @module runner/server_steps
 */

import { frame, PING, TEXT } from "../server/websocket.mjs";
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
  /** Another log, without a loss: the client sees another view. */
  new_log: (run) => {
    run.epochs.push(run.server.feed.epoch);
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
  /** One message in three WebSocket frames, with a ping between. */
  fragments: async (run, { text }) => {
    const { wire } = await session(run);
    const parts = [Buffer.from(text).subarray(0, 5), Buffer.from(text).subarray(5, 9), Buffer.from(text).subarray(9)];
    wire.raw(frame(TEXT, parts[0], { fin: false }));
    wire.raw(frame(PING, Buffer.from("are you there")));
    wire.raw(frame(0, parts[1], { fin: false }));
    wire.raw(frame(0, parts[2]));
  },
  /** Answers the command of this kind that came as the `nth`. */
  respond: async (run, { to, nth = 1, message }) => {
    const find = () => run.server.commands.filter(({ op }) => op === to)[nth - 1];
    const { id } = await run.until(find, () => `expected ${nth} times the command \`${to}\``);
    (await session(run)).say({ ...message, id });
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
