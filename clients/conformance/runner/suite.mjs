/**
 * Cases with one client: several at a time, each with a fake server of its own.
 *
 * @module runner/suite
 */

import { CaseRun } from "./case_run.mjs";

/** @typedef {{name: string, transport: string, level: string, outcome: "passed"|"failed"|"skipped", reason?: string, ms: number}} Result */

let addresses = 0;

/** Loopback addresses: browsers count connections by address, and each case must have its own six. */
function nextAddress() {
  addresses += 1;
  return process.platform === "linux" ? `127.9.${(addresses >> 7) & 127}.${1 + (addresses & 127)}` : "127.0.0.1";
}

/**
 * @param {{test: object, transport: string}[]} jobs
 * @param {() => Promise<import("./adapter_process.mjs").AdapterProcess>} start starts one adapter
 * @param {{parallel: number, onResult: (result: Result) => void}} options
 * @returns {Promise<{hello: object, results: Result[]}>}
 */
export async function runSuite(jobs, start, { parallel, onResult }) {
  let shared = await start();
  const { hello } = shared;
  const results = [];
  // Those that wait the longest begin first.
  const queue = [...jobs].sort((a, b) => Number(b.test.isAlone) - Number(a.test.isAlone));
  let begun = 0;
  const run = async (job, isAlone) => {
    begun += 1;
    const lacks = lacking(job.test, job.transport, hello);
    if (lacks) return { ...outcome(job, "skipped"), reason: `the client has no \`${lacks}\`` };
    return runOne(job, isAlone ? await start() : shared, isAlone, `c${begun}`, start);
  };
  const worker = async () => {
    for (let job = queue.shift(); job; job = queue.shift()) {
      let result = await run(job, job.test.isAlone);
      // A client that brings its program down must not be the fault of the cases beside it.
      if (shared.hasEnded) shared = await start();
      if (result.isBroken && !job.test.isAlone) result = await run(job, true);
      results.push(result);
      onResult(result);
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  await shared.end();
  return { hello, results };
}

const outcome = ({ test, transport }, outcome, ms = 0) => ({ name: test.name, transport, level: test.level, outcome, ms });

async function runOne(job, adapter, isAlone, prefix, start) {
  const begin = Date.now();
  const { test, transport } = job;
  const failure = await new CaseRun(test, transport, adapter, prefix, start).run(nextAddress());
  const isBroken = adapter.hasEnded === true;
  if (isAlone) await adapter.end();
  const ms = Date.now() - begin;
  return failure === null ? outcome(job, "passed", ms) : { ...outcome(job, "failed", ms), reason: failure.replace(/\s*\n\s*/g, " "), isBroken };
}

function lacking({ needs }, transport, { features = [], transports = [] }) {
  if (transport !== "ladder" && !transports.includes(transport)) return transport;
  return needs.find((feature) => !features.includes(feature));
}
