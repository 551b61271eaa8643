#!/usr/bin/env node
/**
 * Runs the conformance suite against one client.
 *
 *   run.mjs --client js|python|chromium|firefox|COMMAND [--transport T] [--case TEXT] [--level L]
 *           [--clients FOLDER] [--without NAME] [--parallel N] [--json FILE] [--junit FILE] [--list]
 *
 * `--without SharedWorker` takes something from a browser
 *
 * One line per failure, with what was expected and seen; then the sums. Ends with 1 if a case failed.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { AdapterBrowser } from "./runner/adapter_browser.mjs";
import { AdapterProcess } from "./runner/adapter_process.mjs";
import { cases, LEVELS, TRANSPORTS } from "./runner/cases.mjs";
import { junit, summary } from "./runner/report.mjs";
import { runSuite } from "./runner/suite.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const { values } = parseArgs({
  options: {
    client: { type: "string", default: "js" },
    transport: { type: "string", multiple: true },
    case: { type: "string", multiple: true },
    level: { type: "string", multiple: true },
    clients: { type: "string", default: dirname(HERE) },
    parallel: { type: "string" },
    json: { type: "string" },
    junit: { type: "string" },
    without: { type: "string", multiple: true },
    list: { type: "boolean", default: false },
  },
});

const transports = values.transport ?? [...TRANSPORTS, "ladder"];
for (const transport of transports) {
  if (![...TRANSPORTS, "ladder"].includes(transport)) fail(`expected a transport of ${TRANSPORTS.join(", ")}, ladder, found \`${transport}\``);
}
for (const level of values.level ?? []) if (!LEVELS.includes(level)) fail(`expected a level of ${LEVELS.join(", ")}, found \`${level}\``);
const chosen = cases(join(HERE, "cases")).filter(
  ({ name, level }) => (!values.case || values.case.some((text) => name.includes(text))) && (!values.level || values.level.includes(level)),
);
const jobs = chosen.flatMap((test) => transports.filter((one) => test.transports.includes(one)).map((transport) => ({ test, transport })));
if (!jobs.length) fail("expected at least one case, found none that fits");
if (values.list) {
  for (const test of chosen) console.log(`${test.name} (${test.level}; ${test.transports.join(", ")}): ${test.purpose}`);
  process.exit(0);
}

const known = JSON.parse(readFileSync(join(HERE, "clients.json"), "utf8"))[values.client];
const clients = resolve(values.clients);
const begin = Date.now();
const host = known?.browser ? await AdapterBrowser.launch(known.browser, clients, HERE, values.without) : undefined;
const start = host ? () => host.open() : () => AdapterProcess.start(known?.command ?? values.client, known ? clients : process.cwd());
const { hello, results } = await runSuite(jobs, start, {
  // Chromium delays connections where many of one page wait.
  parallel: Number(values.parallel ?? (host ? 12 : 24)),
  onResult: ({ name, transport, outcome, reason }) => outcome === "failed" && console.log(`FAILED ${name} [${transport}]: ${reason}`),
})
  .catch((error) => fail(error.message))
  .finally(() => host?.close());
if (values.json) writeFileSync(values.json, `${JSON.stringify({ client: hello, results }, null, 1)}\n`);
if (values.junit) writeFileSync(values.junit, junit(values.client, results));
console.log(summary(hello, results, Date.now() - begin));
process.exit(results.some(({ outcome }) => outcome === "failed") ? 1 : 0);

function fail(sentence) {
  console.error(sentence);
  process.exit(2);
}
