/**
 * JSON whose integers beyond 2^53 stay exact, as BigInt. Part of `fanline.js`.
 *
 * @module numbers
 */

/** Text without it has no such integer. */
const CANDIDATE = /\d{16}/;
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g;
/** What a feed cannot guess, and so cannot send. */
const MARK = `int ${Math.random()} `;

/** @param {string} text */
export function parseExact(text) {
  if (!CANDIDATE.test(text)) return JSON.parse(text);
  const marked = text.replace(TOKEN, (token) =>
    /^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token)) ? `"${MARK}${token}"` : token,
  );
  return JSON.parse(marked, (_, value) =>
    typeof value === "string" && value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value,
  );
}
