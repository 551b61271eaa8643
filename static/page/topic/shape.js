/**
 * What a topic is, by the shape of its messages: a quote, trades, an order book, a chat, or JSON of its own. No DOM.
 *
 * Names are those that venues use; a payload that only wraps another is looked into.
 *
 * @module shape
 */

import { findPlace, numeric, valueAt } from "../topics/payload.js";

const WRAPPERS = ["data", "params", "tick", "result", "payload", "message", "k"];
const DEPTH_MAX = 4;

const PRICES = ["price", "px", "p", "last_price", "lastPx"];
const SIZES = ["size", "qty", "quantity", "amount", "volume", "sz", "q", "v", "lastSz", "last_size"];
const SIDES = ["side", "taker_side", "takerSide", "direction", "S"];
const TEXTS = ["text", "message", "msg", "body", "content"];
const AUTHORS = ["user", "author", "nick", "from", "sender", "name", "username"];
const BIDS = ["bids", "bid", "b", "bs"];
const ASKS = ["asks", "ask", "a", "as"];
const BID_SIZES = ["bid_size", "bidSize", "bid_qty", "bidSz", "bidQty", "B", "best_bid_size", "best_bid_amount"];
const ASK_SIZES = ["ask_size", "askSize", "ask_qty", "askSz", "askQty", "A", "best_ask_size", "best_ask_amount"];
const CHANGES = ["changes"];

/** @typedef {"quote"|"trades"|"book"|"chat"|"json"} Kind */
/** @typedef {{price: number, priceText: string, size: number, sizeText: string, side: "buy"|"sell"|""}} Trade */
/** @typedef {{author: string, text: string}} ChatMessage */
/** @typedef {{bid: number, ask: number, bidSize: string, askSize: string}} Quote */

/**
 * The kind of a topic, by one of its frames.
 * @param {{topic: string, kind?: string, data?: any}} frame
 * @returns {Kind}
 */
export function kindOf({ topic, kind, data }) {
  if (bookSides(data)) return "book";
  if (chatMessage(data)) return "chat";
  if (trades(data).length && (!quote(data) || /trade|match|deal/i.test(topic))) return "trades";
  if (kind === undefined && findPlace(data) !== null) return "quote";
  return "json";
}

/**
 * The object and the members that hold the sides of a book, or null if the payload is none. `changes` is a list of
 * changes that name their side.
 * @param {any} data
 * @returns {{bids: any[], asks: any[], changes: any[]}|null}
 */
export function bookSides(data) {
  for (const node of wrapped(data)) {
    const bids = levelsAt(node, BIDS);
    const asks = levelsAt(node, ASKS);
    const changes = levelsAt(node, CHANGES);
    if ((bids && asks) || changes) return { bids: bids ?? [], asks: asks ?? [], changes: changes ?? [] };
    // Some venues leave out the side that has not changed.
    const one = bids ?? asks;
    if (one?.length) return { bids: bids ?? [], asks: asks ?? [], changes: [] };
  }
  return null;
}

function levelsAt(node, names) {
  const name = names.find((each) => Array.isArray(node[each]));
  const levels = name && node[name];
  return levels && levels.every((level) => level !== null && typeof level === "object") ? levels : undefined;
}

/** Every trade in a payload, oldest first. @param {any} data @returns {Trade[]} */
export function trades(data) {
  for (const node of wrapped(data, true)) {
    const list = Array.isArray(node) ? node : [node];
    const found = list.map(trade);
    if (found.length && found.every(Boolean)) return found;
  }
  return [];
}

function trade(node) {
  if (node === null || typeof node !== "object" || Array.isArray(node)) return null;
  const price = member(node, PRICES);
  const size = member(node, SIZES);
  if (price === undefined || size === undefined) return null;
  return {
    price: numeric(price),
    priceText: String(price),
    size: numeric(size),
    sizeText: String(size),
    side: sideOf(node),
  };
}

/** The side of the trade that took. Binance says whether the buyer was the maker. */
function sideOf(node) {
  if (typeof node.m === "boolean") return node.m ? "sell" : "buy";
  const side = SIDES.map((name) => node[name]).find((value) => typeof value === "string") ?? "";
  if (/^(b|buy|bid)$/i.test(side)) return "buy";
  return /^(s|sell|ask|offer)$/i.test(side) ? "sell" : "";
}

/** Best bid and ask of a payload, or null. @param {any} data @returns {Quote|null} */
export function quote(data) {
  const place = findPlace(data);
  for (const node of wrapped(data)) {
    const bid = member(node, ["bid", "bidPrice", "bid_price", "best_bid", "bestBid", "bidPx", "best_bid_price", "b", "bp"]);
    const ask = member(node, ["ask", "askPrice", "ask_price", "best_ask", "bestAsk", "askPx", "best_ask_price", "a", "ap"]);
    // Trades of some venues have ids in `b` and `a`: a price between them, if there is one, tells.
    if (bid === undefined || ask === undefined || numeric(bid) > numeric(ask)) continue;
    const middle = place === null ? NaN : valueAt(data, place).value;
    if (middle > 2 * numeric(ask)) continue;
    const size = (names) => String(member(node, names) ?? "");
    return { bid: numeric(bid), ask: numeric(ask), bidSize: size(BID_SIZES), askSize: size(ASK_SIZES) };
  }
  return null;
}

/** @param {any} data @returns {ChatMessage|null} */
export function chatMessage(data) {
  if (typeof data === "string") return ircMessage(data);
  for (const node of wrapped(data)) {
    const text = TEXTS.map((name) => node[name]).find((value) => typeof value === "string");
    const author = AUTHORS.map((name) => node[name]).find((value) => value !== undefined && value !== null);
    if (text === undefined || author === undefined) continue;
    return { author: String(author.name ?? author.login ?? author), text };
  }
  return null;
}

/** A line of IRC (RFC 1459), with tags (IRCv3) or without. */
function ircMessage(line) {
  const parts = /^(?:@(\S+) )?:([^! ]+)\S* PRIVMSG \S+ :(.*)$/s.exec(line.trim());
  if (!parts) return null;
  const name = /(?:^|;)display-name=([^;]+)/.exec(parts[1] ?? "")?.[1];
  return { author: name ?? parts[2], text: parts[3] };
}

/** The first of these members that is a number. */
function member(node, names) {
  const name = names.find((each) => Number.isFinite(numeric(node[each])));
  return name === undefined ? undefined : node[name];
}

/** The payload, what it wraps, and the newest of a list; with `lists`, lists themselves too. */
function* wrapped(data, lists = false) {
  let node = data;
  for (let depth = 0; depth < DEPTH_MAX && node !== null && typeof node === "object"; depth++) {
    if (Array.isArray(node)) {
      if (lists) yield node;
      node = node.findLast((each) => each !== null && typeof each === "object" && !Array.isArray(each));
      continue;
    }
    yield node;
    const key = WRAPPERS.find((each) => node[each] !== null && typeof node[each] === "object");
    node = node[key];
  }
}
