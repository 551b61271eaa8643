/**
 * The cases: one JSON file each, in `cases/AREA/NAME.json`.
 *
 * @module runner/cases
 */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const MEMBERS = ["purpose", "level", "transports", "needs", "options", "server", "steps", "loose", "deadline_ms"];
export const TRANSPORTS = ["websocket", "sse", "longpoll", "poll"];
export const LEVELS = ["core", "tokens", "transports", "tabs"];
/** Commands about the whole process: their case has one of its own. */
const ENVIRONMENT = ["offline", "online", "freeze", "resume", "hide", "show", "wake"];
const NEEDED_BY = {
  set_pace: "pace",
  set_token: "tokens",
  send: "ask",
  request: "ask",
  offline: "network",
  online: "network",
  freeze: "freeze",
  resume: "freeze",
  hide: "hidden",
  show: "hidden",
  wake: "wake",
};

/** All cases, by name; throws what is wrong with one. @param {string} folder */
export function cases(folder) {
  const found = [];
  for (const area of readdirSync(folder).sort()) {
    for (const file of readdirSync(join(folder, area)).sort()) {
      const name = `${area}/${file.replace(/\.json$/, "")}`;
      found.push(checked(name, JSON.parse(readFileSync(join(folder, area, file), "utf8"))));
    }
  }
  return found;
}

function checked(name, test) {
  const wrong = (sentence) => new Error(`case ${name}: ${sentence}`);
  const foreign = Object.keys(test).find((member) => !MEMBERS.includes(member));
  if (foreign) throw wrong(`expected ${MEMBERS.join(", ")}, found \`${foreign}\``);
  if (!/^[A-Z].*\.$/.test(test.purpose ?? "")) throw wrong("expected a `purpose` in one sentence");
  if (!LEVELS.includes(test.level)) throw wrong(`expected a \`level\` of ${LEVELS.join(", ")}`);
  const transports = test.transports ?? TRANSPORTS;
  if (!transports.every((one) => one === "ladder" || TRANSPORTS.includes(one))) throw wrong("expected known `transports`");
  const kinds = test.steps.map((step) => ["client", "server", "runner", "expect"].filter((kind) => kind in step));
  const odd = kinds.findIndex((kind) => kind.length !== 1);
  if (odd >= 0) throw wrong(`expected step ${odd + 1} to be of the client, the server, the runner or an expectation`);
  if (!test.steps.some((step) => step.expect)) throw wrong("expected an expectation");
  const commands = test.steps.map((step) => step.client).filter(Boolean);
  const needs = new Set([...(test.needs ?? []), ...commands.map((op) => NEEDED_BY[op]).filter(Boolean)]);
  if (test.options?.token !== undefined) needs.add("tokens");
  if (test.options?.numbers !== undefined) needs.add("numbers");
  if (transports.includes("ladder")) needs.add("ladder");
  const isAlone = needs.has("process") || commands.some((op) => ENVIRONMENT.includes(op));
  return { ...test, name, transports, needs: [...needs], isAlone };
}
