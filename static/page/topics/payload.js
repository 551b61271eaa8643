/**
 * Finds the number worth showing in a payload of any venue.
 *
 * A place is a JSON pointer, or two joined by `|` whose mean is meant (bid and ask). It is found once per topic and
 * then looked up; a payload without that place leaves the value as it was, as venues that send only changes mean it.
 *
 * @module payload
 */

/** Names of a price, best first. One-letter names come last: venues use them for other things as well. */
const NAMES = ["price", "last", "lastPrice", "last_price", "lastPx", "px", "rate", "mid", "midPrice"];
const NAMES_SECOND = ["close", "mark_price", "markPrice", "index_price", "value", "open", "vwap"];
/** Names of best bid and best ask. */
const PAIRS = [
  ["bid", "ask"],
  ["bidPrice", "askPrice"],
  ["bid_price", "ask_price"],
  ["best_bid", "best_ask"],
  ["bestBid", "bestAsk"],
  ["best_bid_price", "best_ask_price"],
  ["bestBidPrice", "bestAskPrice"],
  ["bid1Price", "ask1Price"],
  ["bidPx", "askPx"],
  ["bp", "ap"],
];
/** Kline closes and trades before quotes: Binance's trades have ids in `b` and `a`. */
const LETTERS = [["c"], ["p"], ["b", "a"]];
const CANDIDATES = [...NAMES.map((name) => [name]), ...PAIRS, ...NAMES_SECOND.map((name) => [name]), ...LETTERS];
/** Objects that only wrap the payload proper, looked into first. */
const WRAPPERS = ["data", "params", "tick", "result", "payload", "k", "price_feed", "price"];
const DEPTH_MAX = 5;
/** More leaves than a person would choose from. */
const FIELDS_MAX = 40;

/** A finite number, from a number or a decimal text; else NaN. */
export function numeric(value) {
  if (typeof value === "number") return value;
  return typeof value === "string" && /^-?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(value) ? Number(value) : NaN;
}

const isNumeric = (value) => Number.isFinite(numeric(value));

/**
 * Where the value is, or null if the payload has none.
 * @param {any} data
 * @returns {string|null}
 */
export function findPlace(data) {
  return search(data, "", 0);
}

function search(node, at, depth) {
  if (depth === 0 && isNumeric(node)) return "";
  if (node === null || typeof node !== "object" || depth > DEPTH_MAX) return null;
  if (Array.isArray(node)) {
    // The newest of a batch is the last; arrays of bare numbers (books, candles) have no names to judge by.
    const last = node.length - 1;
    return last >= 0 && typeof node[last] === "object" ? search(node[last], `${at}/-1`, depth + 1) : null;
  }
  const found = CANDIDATES.find((names) => names.every((name) => isNumeric(node[name])));
  if (found) return found.map((name) => `${at}/${escape(name)}`).join("|");
  const inner = Object.keys(node).filter((key) => node[key] !== null && typeof node[key] === "object");
  inner.sort((a, b) => rank(a) - rank(b));
  for (const key of inner.slice(0, 16)) {
    if (/^(bids?|asks?|b|a|changes)$/.test(key)) continue; // levels of a book: a change, not a price
    const place = search(node[key], `${at}/${escape(key)}`, depth + 1);
    if (place !== null) return place;
  }
  return null;
}

function rank(key) {
  const i = WRAPPERS.indexOf(key);
  return i < 0 ? WRAPPERS.length : i;
}

const escape = (key) => key.replaceAll("~", "~0").replaceAll("/", "~1");
const unescape = (key) => key.replaceAll("~1", "/").replaceAll("~0", "~");

/** @type {Map<string, string[][]>} */
const readPlaces = new Map();
/** A feed has few shapes; one that has many reads each anew. */
const READ_PLACES_MAX = 1_000;

/** The keys of each pointer of a place. @param {string} place */
function pointersOf(place) {
  let pointers = readPlaces.get(place);
  if (!pointers) {
    pointers = place.split("|").map((pointer) => pointer.split("/").slice(1).map(unescape));
    if (readPlaces.size >= READ_PLACES_MAX) readPlaces.clear();
    readPlaces.set(place, pointers);
  }
  return pointers;
}

/** Follows one pointer; `-1` is the last element of an array. @param {any} data @param {string[]} keys */
function follow(data, keys) {
  let node = data;
  let parent;
  for (const key of keys) {
    parent = node;
    node = Array.isArray(node) ? node.at(Number(key)) : node?.[key];
  }
  const value = numeric(node);
  // Pyth gives an integer and its exponent.
  return Number.isInteger(parent?.expo) ? [value * 10 ** parent.expo, -parent.expo] : [value, decimals(node)];
}

function decimals(value) {
  const [, fraction = "", exponent = "0"] = /^-?\d*\.?(\d*?)0*(?:e([+-]?\d+))?$/i.exec(String(value)) ?? [];
  return Math.min(Math.max(fraction.length - Number(exponent), 0), 10);
}

/**
 * The number at a place, and how many decimals it was given with; `value` is NaN if there is none.
 * @param {any} data
 * @param {string} place
 */
export function valueAt(data, place) {
  const pointers = pointersOf(place);
  const count = pointers.length;
  let [sum, digits] = [0, 0];
  for (const keys of pointers) {
    const [value, given] = follow(data, keys);
    sum += value;
    digits = Math.max(digits, given);
  }
  const value = sum / count;
  // A mean may end half a step further.
  const whole = count === 1 || Number(value.toFixed(digits)) === Number(value.toFixed(digits + 1));
  return { value, decimals: whole ? digits : digits + 1 };
}

/**
 * Every place of a number in a payload, for a person to choose from.
 * @param {any} data
 * @returns {string[]}
 */
export function places(data) {
  const found = [];
  const walk = (node, at, depth) => {
    if (found.length >= FIELDS_MAX || depth > DEPTH_MAX) return;
    if (isNumeric(node)) found.push(at);
    else if (Array.isArray(node)) {
      if (typeof node.at(-1) === "object") walk(node.at(-1), `${at}/-1`, depth + 1);
    } else if (node !== null && typeof node === "object") {
      for (const key of Object.keys(node)) walk(node[key], `${at}/${escape(key)}`, depth + 1);
    }
  };
  walk(data, "", 0);
  return found;
}

/** One line for a payload without a number. @param {any} data */
export function summary(data) {
  if (data === undefined) return "(binary)";
  const text = typeof data === "string" ? data : (data?.text ?? data?.message ?? data?.msg ?? JSON.stringify(data));
  return String(text).slice(0, 160);
}

/** What the values of a table are, in a few words. @param {Iterable<string|null>} places */
export function commonName(places) {
  const names = [...new Set([...places].filter((place) => place !== null))].map(placeName);
  return names.length > 2 ? "see each row" : names.join(" / ");
}

/** A place as people read it: `/data/p` is `data.p`, and bid and ask are `mean of b, a`. @param {string} place */
export function placeName(place) {
  const names = place.split("|").map((pointer) => pointer.slice(1).replaceAll("/-1", "[last]").replaceAll("/", "."));
  return names.length > 1 ? `mean of ${names.join(", ")}` : names[0] || "the payload";
}
