/**
 * Patterns and topics (docs/PROTOCOL.md, "Words"), written apart from every client.
 *
 * @module server/pattern
 */

const TOPIC = /^[^\s,*>\u0000-\u001f\u007f]+$/;

/** @param {string} pattern @param {string} topic */
export function matches(pattern, topic) {
  const wanted = pattern.split(".");
  const tokens = topic.split(".");
  const rest = wanted.at(-1) === ">";
  if (rest) wanted.pop();
  if (rest ? tokens.length <= wanted.length : tokens.length !== wanted.length) return false;
  return wanted.every((token, i) => fits(token, tokens[i]));
}

function fits(wanted, token) {
  const parts = wanted.split("*").map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`, "u").test(token);
}

/** @param {Iterable<string>} patterns @param {string} topic */
export function covers(patterns, topic) {
  return [...patterns].some((pattern) => matches(pattern, topic));
}

/** Whether the server would take it. */
export function isPattern(pattern) {
  if (typeof pattern !== "string" || !pattern || Buffer.byteLength(pattern) > 256) return false;
  const tokens = pattern.split(".");
  return tokens.every((token, i) => (token === ">" && i === tokens.length - 1) || TOPIC.test(token.replaceAll("*", "x")));
}

export const isWildcard = (pattern) => /[*>]/.test(pattern);
