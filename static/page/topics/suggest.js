/**
 * Patterns that would show something, for a person whose own shows nothing.
 *
 * @module suggest
 */

import { matches } from "../../fanline.js";

const SUGGESTIONS_MAX = 3;
/** A server allows 100 wildcards by default; one letter can stand at very many places. */
const FOUND_MAX = 20;

/**
 * What a person means who types these words: a word that no known topic matches, but that is a part of some, is a search.
 * @param {string[]} words
 * @param {Set<string>} topics that are known to exist
 * @returns {string[]} patterns
 */
export function find(words, topics) {
  const meant = words.flatMap((word) => {
    if (/[*>]/.test(word) || topics.has(word)) return [word];
    const found = votes([word], topics).slice(0, FOUND_MAX);
    return found.length ? found : [word];
  });
  return [...new Set(meant)];
}

/**
 * `btc` is a pattern, but no topic; with `trade.BTC-USD` known, `*.*BTC*` is what was meant.
 * @param {string[]} patterns
 * @param {Set<string>} topics that are known to exist
 * @returns {string[]} best first; empty if the patterns match something
 */
export function suggest(patterns, topics) {
  if ([...topics].some((topic) => patterns.some((pattern) => matches(pattern, topic)))) return [];
  const words = patterns.map((pattern) => pattern.replace(/[*>]/g, "").replace(/^\.+|\.+$/g, ""));
  return [...votes(words.filter(Boolean), topics).slice(0, SUGGESTIONS_MAX), ">"];
}

/** Patterns of topics that contain one of the words, the widest first. */
function votes(words, topics) {
  const counts = new Map();
  for (const word of words) {
    for (const topic of topics) {
      const pattern = around(word.toLowerCase(), topic);
      if (pattern) counts.set(pattern, (counts.get(pattern) ?? 0) + 1);
    }
  }
  return [...counts].sort((a, b) => b[1] - a[1]).map(([pattern]) => pattern);
}

/** The widest pattern that keeps the word where the topic has it. The word may reach over several tokens. */
function around(word, topic) {
  const at = topic.toLowerCase().indexOf(word);
  if (at < 0) return null;
  const behind = at + word.length;
  let next = 0;
  const parts = topic.split(".").map((token) => {
    const [start, end] = [next, next + token.length];
    next = end + 1;
    const found = topic.slice(Math.max(at, start), Math.min(behind, end));
    if (at >= end || behind <= start) return "*";
    return `${at >= start ? "*" : ""}${found}${behind <= end ? "*" : ""}`;
  });
  return parts.join(".");
}
