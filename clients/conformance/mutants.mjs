#!/usr/bin/env node
/**
 * Shows that the suite can fail: plants one fault at a time in a copy of the JavaScript client; a case must notice it.
 *
 *   mutants.mjs [--clients FOLDER] [--only TEXT]
 *
 * A fault is a text of the client and what stands in its place. A text that is not there exactly once is an error: then the
 * client has changed, and the table follows it.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const HERE = dirname(fileURLToPath(import.meta.url));
const FAULTS = [
  { name: "resumes without its cursor", file: "place.js", text: "return this.epoch && `${this.epoch}:${this.offset}`;", fault: 'return "";', noticed: "resume/after_a_cut", on: "websocket" },
  { name: "resumes with patterns that it did not hold", file: "place.js", text: "patterns.filter((pattern) => this.#held.has(pattern))", fault: "patterns", noticed: "resume/cursor_unknown", on: "websocket" },
  { name: "delivers a frame again", file: "topics.js", text: "if (!isNew) return false;", fault: "", noticed: "resume/", on: "sse" },
  { name: "keeps values of a server that is gone", file: "fanline.js", text: "if (this.#place.greeted(message)) this.#topics.clear();", fault: "this.#place.greeted(message);", noticed: "resume/epoch", on: "websocket" },
  { name: "keeps values of another view", file: "fanline.js", text: "if (this.#place.turn(message)) this.#topics.clear();", fault: "this.#place.turn(message);", noticed: "notices/live_then_delayed", on: "websocket" },
  { name: "does not hear that the feed is stale", file: "fanline.js", text: "stale: (message) => this.#notice(message, message.message || message.reason),", fault: "", noticed: "notices/feed_stale", on: "websocket" },
  { name: "sends what it was told to forget", file: "interests.js", text: "if (given.length) this.#link.send({", fault: "if (false) this.#link.send({", noticed: "frames/on_its_way", on: "websocket" },
  { name: "has no jitter", file: "link.js", text: "OFFLINE_MS : random() * bound)", fault: "OFFLINE_MS : bound)", noticed: "reconnect/jitter", on: "websocket" },
  { name: "does not back off", file: "link.js", text: "backoff_ms * 2 ** this.#attempts++", fault: "backoff_ms", noticed: "reconnect/backoff_grows", on: "longpoll" },
  { name: "reconnects after a terminal close code", file: "link.js", text: "const TERMINAL = 4500;", fault: "const TERMINAL = 9999;", noticed: "reconnect/terminal", on: "websocket" },
  { name: "does not keep the delay of a goodbye", file: "fanline.js", text: "      this.#link.goodbye = message;\n", fault: "", noticed: "reconnect/goodbye", on: "sse" },
  { name: "does not notice silence", file: "link.js", text: "if (left_ms > 0) return this.expect(left_ms);", fault: "return this.expect(1000);", noticed: "reconnect/heartbeat_loss", on: "websocket" },
  { name: "does not ask a server that was silent while the machine slept", file: "watch.js", text: "this.#link.expect(this.#options.probe_deadline_ms);", fault: "", noticed: "reconnect/wake_probes", on: "websocket" },
  { name: "does not know that the page is frozen", file: "watch.js", text: "freeze: suspend", fault: "freeze: wake", noticed: "reconnect/frozen_lets_go", on: "websocket" },
  { name: "shows a refused token again", file: "link.js", text: "this.token?.refused();", fault: "", noticed: "tokens/refused", on: "websocket" },
  { name: "shows refused tokens for ever", file: "link.js", text: "const UNAUTHENTICATED_MAX = 3;", fault: "const UNAUTHENTICATED_MAX = 300;", noticed: "tokens/refused_three_times", on: "websocket" },
  { name: "forgets the cursor of a stream of events", file: "sse.js", text: "if (id) session.received = id;", fault: "", noticed: "resume/", on: "sse" },
  { name: "knows one kind of line end", file: "sse.js", text: "split(/\\r\\n|\\n|\\r(?!$)/)", fault: "split(/\\n/)", noticed: "sse/line_ends", on: "sse" },
  { name: "storms a cache that is broken", file: "poll.js", text: "else if (!isNew) await pause", fault: "else if (!isNew) void pause", noticed: "poll/", on: "longpoll" },
  { name: "never changes its transport", file: "ladder.js", text: "const POINTS = 6;", fault: "const POINTS = 1e9;", noticed: "transports/upgrade_refused", on: "ladder" },
  { name: "trusts a transport that has failed before", file: "ladder.js", text: "[this.#points, this.#proven] = [POINTS - SHORT_LIFE, at];", fault: "", noticed: "transports/cut_when_tried_again", on: "ladder" },
];

const { values } = parseArgs({ options: { clients: { type: "string", default: dirname(HERE) }, only: { type: "string", default: "" } } });
const chosen = FAULTS.filter(({ name }) => name.includes(values.only));
const source = join(resolve(values.clients), "js");
const copy = await mkdtemp(join(tmpdir(), "fanline-mutants-"));
await cp(source, join(copy, "js"), { recursive: true, filter: (path) => !path.includes("node_modules") });

/** Whether all cases that are to notice the fault pass. */
async function passes({ noticed, on }) {
  const options = ["--client", "js", "--clients", copy, "--case", noticed, "--transport", on];
  const run = spawn(process.execPath, [join(HERE, "run.mjs"), ...options], { stdio: ["ignore", "ignore", "inherit"] });
  const [code] = await once(run, "exit");
  if (code > 1) throw new Error(`expected that the suite runs ${noticed} on ${on}, found status ${code}`);
  return code === 0;
}

const wrong = [];
for (const fault of chosen) {
  const file = join(copy, "js", "src", fault.file);
  const text = await readFile(file, "utf8");
  if (text.split(fault.text).length !== 2) {
    wrong.push(`${fault.name}: expected \`${fault.text}\` once in ${fault.file}; the client has changed`);
    continue;
  }
  if (!(await passes(fault))) wrong.push(`${fault.name}: expected that ${fault.noticed} passes without the fault`);
  await writeFile(file, text.replace(fault.text, () => fault.fault));
  const isNoticed = !(await passes(fault));
  await writeFile(file, text);
  console.log(`${isNoticed ? "noticed" : "MISSED "}  ${fault.name} (${fault.noticed}, ${fault.on})`);
  if (!isNoticed) wrong.push(`${fault.name}: expected that ${fault.noticed} on ${fault.on} notices it`);
}
await rm(copy, { recursive: true });
for (const sentence of wrong) console.error(sentence);
process.exit(wrong.length ? 1 : 0);
