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
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > TOPIC_BYTES_MAX) return `expected at most ${TOPIC_BYTES_MAX} bytes, found ${bytes}`;
  if (/[\p{White_Space}\p{Cc},]/u.test(text)) {
    return `expected no white space, control character or comma, found one in \`${text}\``;
  }
  const tokens = text.split(".");
  if (tokens.includes("")) return `expected no empty token, found one in \`${text}\``;
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
  const parts = pattern.split(".");
  const tokens = topic.split(".");
  if (parts.at(-1) === ">") {
    parts.pop();
    if (tokens.length <= parts.length) return false;
    tokens.length = parts.length;
  }
  return parts.length === tokens.length && parts.every((part, i) => tokenMatches(part, tokens[i]));
}

/** Whether one of the patterns matches. @param {readonly string[]} patterns @param {string} topic */
export function covers(patterns, topic) {
  return patterns.some((pattern) => pattern === ">" || matches(pattern, topic));
}

/** Each piece between two `*` is taken where it comes first; one way is tried. @param {string} pattern @param {string} token */
function tokenMatches(pattern, token) {
  const pieces = pattern.split("*");
  const last = /** @type {string} */ (pieces.pop());
  if (!pieces.length) return token === last;
  if (!token.startsWith(pieces[0])) return false;
  let at = 0;
  for (const piece of pieces) {
    at = token.indexOf(piece, at) + piece.length;
    if (at < piece.length) return false;
  }
  return token.length - last.length >= at && token.endsWith(last);
}
