/**
 * Whether something seen is what a case expects: it has the members that are named, with these values.
 *
 * In place of a value may stand `{"$gte": n}`, `{"$lte": n}`, `{"$any": [values]}`, `{"$match": "regular expression"}`,
 * `{"$absent": true}` (not there, null or empty), `{"$present": true}`, `{"$contains": value}`, `{"$length": n}`.
 *
 * @module runner/match
 */

/** A case does not hold; the message says what was expected and seen. */
export class Failure extends Error {}

const TESTS = {
  $gte: (seen, wanted) => typeof seen === "number" && seen >= wanted,
  $lte: (seen, wanted) => typeof seen === "number" && seen <= wanted,
  $any: (seen, wanted) => wanted.some((one) => fits(seen, one)),
  $match: (seen, wanted) => new RegExp(wanted, "u").test(seen ?? ""),
  $absent: (seen, wanted) => isAbsent(seen) === wanted,
  $present: (seen, wanted) => isAbsent(seen) !== wanted,
  $contains: (seen, wanted) => Array.isArray(seen) && seen.some((one) => fits(one, wanted)),
  $length: (seen, wanted) => seen?.length === wanted,
  $not: (seen, wanted) => !fits(seen, wanted),
};

const isAbsent = (value) => value === undefined || value === null || value === "" || value?.length === 0;

/** @param {any} seen @param {any} wanted */
export function fits(seen, wanted) {
  if (wanted === null || typeof wanted !== "object") return Object.is(seen, wanted) || (wanted === null && seen === undefined);
  if (Array.isArray(wanted)) {
    return Array.isArray(seen) && seen.length === wanted.length && wanted.every((one, i) => fits(seen[i], one));
  }
  const names = Object.keys(wanted);
  if (names.length && names.every((name) => TESTS[name])) return names.every((name) => TESTS[name](seen, wanted[name]));
  return seen !== null && typeof seen === "object" && names.every((name) => fits(seen[name], wanted[name]));
}

/** For failures: short enough to read. */
export function shown(value) {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}
