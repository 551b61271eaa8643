/**
 * Patterns that would show something, for a person whose own shows nothing.
 *
 * @module suggest
 */

import { matches } from "./fanline.js";

const SUGGESTIONS_MAX = 3;

/**
 * `btc` is a pattern, but no topic; with `trade.BTC-USD` known, `*.*BTC*` is what was meant.
 * @param {string[]} patterns
 * @param {Set<string>} topics that are known to exist
 * @returns {string[]} best first; empty if the patterns match something
 */
export function suggest(patterns, topics) {
  if ([...topics].some((topic) => patterns.some((pattern) => matches(pattern, topic)))) return [];
  const votes = new Map();
  const words = patterns.map((pattern) => pattern.replace(/[*>]/g, "").replace(/^\.+|\.+$/g, ""));
  for (const word of words.filter(Boolean)) {
    for (const topic of topics) {
      const pattern = around(word.toLowerCase(), topic);
      if (pattern) votes.set(pattern, (votes.get(pattern) ?? 0) + 1);
    }
  }
  const best = [...votes].sort((a, b) => b[1] - a[1]).map(([pattern]) => pattern);
  return [...best.slice(0, SUGGESTIONS_MAX), ">"];
}

/** The widest pattern that keeps the word where the topic has it. */
function around(word, topic) {
  const tokens = topic.split(".");
  const i = tokens.findIndex((token) => token.toLowerCase().includes(word));
  if (i < 0) return null;
  const at = tokens[i].toLowerCase().indexOf(word);
  const found = tokens[i].slice(at, at + word.length);
  return tokens.map((_, j) => (j === i ? `*${found}*` : "*")).join(".");
}
