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
  const shared = await start();
  const results = [];
  // Those that wait the longest begin first.
  const queue = [...jobs].sort((a, b) => Number(b.test.isAlone) - Number(a.test.isAlone));
  let begun = 0;
  const worker = async () => {
    for (let job = queue.shift(); job; job = queue.shift()) {
      begun += 1;
      const result = await runOne(job, shared, start, `c${begun}`);
      results.push(result);
      onResult(result);
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  await shared.end();
  return { hello: shared.hello, results };
}

async function runOne({ test, transport }, shared, start, prefix) {
  const begin = Date.now();
  const result = (outcome, reason) => ({ name: test.name, transport, level: test.level, outcome, reason, ms: Date.now() - begin });
  const { features = [], transports = [] } = shared.hello;
  const lacks = test.needs.find((feature) => !features.includes(feature));
  if (lacks) return result("skipped", `the client has no \`${lacks}\``);
  if (transport !== "ladder" && !transports.includes(transport)) return result("skipped", `the client has no ${transport}`);
  const adapter = test.isAlone ? await start() : shared;
  const failure = await new CaseRun(test, transport, adapter, prefix).run(nextAddress());
  if (test.isAlone) await adapter.end();
  return failure === null ? result("passed") : result("failed", failure);
}
