/**
 * Results for people and for machines.
 *
 * @module runner/report
 */

import { LEVELS } from "./cases.mjs";

const count = (results, outcome) => results.filter((result) => result.outcome === outcome).length;

/** @param {object} hello @param {import("./suite.mjs").Result[]} results @param {number} ms */
export function summary(hello, results, ms) {
  const lines = [`${hello.name} ${hello.version} on ${hello.runtime}: ${results.length} runs in ${(ms / 1000).toFixed(1)} s`];
  for (const level of LEVELS) {
    const own = results.filter((result) => result.level === level);
    if (!own.length) continue;
    const verdict = count(own, "failed") ? "failed" : count(own, "skipped") ? "passed in part" : "passed";
    lines.push(`${level}: ${verdict}: ${count(own, "passed")} passed, ${count(own, "failed")} failed, ${count(own, "skipped")} skipped`);
  }
  const lacking = new Set(results.filter(({ outcome }) => outcome === "skipped").map(({ reason }) => reason));
  for (const reason of lacking) lines.push(`SKIPPED where ${reason}`);
  return lines.join("\n");
}

const escaped = (text) => text.replace(/[<>&"]/g, (sign) => `&#${sign.charCodeAt(0)};`).replace(/[\u0000-\u001f]/g, " ");

/** @param {string} client @param {import("./suite.mjs").Result[]} results */
export function junit(client, results) {
  const one = ({ name, transport, outcome, reason, ms }) => {
    const inner = outcome === "failed" ? `<failure message="${escaped(reason)}"/>` : outcome === "skipped" ? `<skipped message="${escaped(reason)}"/>` : "";
    return `<testcase classname="${escaped(client)}.${transport}" name="${escaped(name)}" time="${(ms / 1000).toFixed(3)}">${inner}</testcase>`;
  };
  const sums = `tests="${results.length}" failures="${count(results, "failed")}" skipped="${count(results, "skipped")}"`;
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuite name="fanline conformance: ${escaped(client)}" ${sums}>\n${results.map(one).join("\n")}\n</testsuite>\n`;
}
