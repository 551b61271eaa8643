/**
 * Patterns over topics, with the rules of the server (docs/PROTOCOL.md, "Words").
 *
 * A topic is tokens separated by `.`; in a pattern `*` matches inside one token, a last token `>` one or more tokens.
 * Pages import these functions from `fanline.js`.
 *
 * @module pattern
 */

/** Longest topic or pattern in bytes, as in the server. */
const TOPIC_BYTES_MAX = 256;

/**
 * Says why `text` is no pattern, or null if it is one. Same rules as the server.
 * @param {string} text
 * @returns {string|null}
 */
export function checkPattern(text) {
  if (text === "") return "expected a topic or a pattern, found an empty text";
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > TOPIC_BYTES_MAX) return `expected at most ${TOPIC_BYTES_MAX} bytes, found ${bytes}`;
  if (/[\p{White_Space}\p{Cc},]/u.test(text)) {
    return `expected no white space, control character or comma, found one in \`${text}\``;
  }
  const tokens = text.split(".");
  if (tokens.includes("")) return `expected tokens separated by single dots, found an empty token in \`${text}\``;
  if (tokens.some((token, i) => token.includes(">") && (token !== ">" || i < tokens.length - 1))) {
    return `expected \`>\` only as the whole last token, found \`${text}\`; write \`prefix.>\` for all below prefix`;
  }
  return null;
}

/**
 * Whether a (valid) pattern matches a topic: `*` matches inside one token, a last token `>` one or more tokens.
 * @param {string} pattern
 * @param {string} topic
 */
export function matches(pattern, topic) {
  const tokens = topic.split(".");
  const parts = pattern.split(".");
  for (let i = 0; i < parts.length; i++) {
    if (i >= tokens.length) return false;
    if (parts[i] === ">" && i === parts.length - 1) return true;
    if (!tokenMatches(parts[i], tokens[i])) return false;
  }
  return parts.length === tokens.length;
}

/** Whether one of the patterns matches. @param {readonly string[]} patterns @param {string} topic */
export function covers(patterns, topic) {
  return patterns.some((pattern) => pattern === ">" || matches(pattern, topic));
}

/** Glob inside one token, greedy with one point of return: at most the product of the lengths. @param {string} pattern @param {string} token */
function tokenMatches(pattern, token) {
  if (pattern === "*" || pattern === token) return true;
  let [p, t, starP, starT] = [0, 0, -1, 0];
  while (t < token.length) {
    if (pattern[p] === "*") [starP, starT] = [p++, t];
    else if (pattern[p] === token[t]) [p, t] = [p + 1, t + 1];
    else if (starP >= 0) [p, t] = [starP + 1, ++starT];
    else return false;
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}
