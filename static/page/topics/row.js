/**
 * What the page knows of one topic. No DOM, no clock.
 *
 * @module row
 */

import { Messages } from "../topic/messages.js";
import { chatMessage, kindOf, trades } from "../topic/shape.js";
import { History } from "./history.js";
import { findPlace, summary, valueAt } from "./payload.js";

/** A topic is quiet when it has been silent for 8 times its habit, and for at least 5 s. */
const QUIET_FACTOR = 8;
const QUIET_MS_MIN = 5_000;
/** Fewer updates are no habit. */
const HABIT_UPDATES_MIN = 5;
/** What a person scrolls back in a tape, and what 1000 topics hold in 15 MB. */
const TRADES_MAX = 100;
const CHAT_MESSAGES_MAX = 200;
/** Weight of the newest interval: a habit is some ten updates long. */
const HABIT_WEIGHT = 0.1;
/** Half of a burst is forgotten in about 3 s. */
const RATE_SMOOTHING_MS = 4_000;

const formats = new Map();

/** More digits than that tell a person nothing, and do not fit a phone. */
const DIGITS_MAX = 10;

/** @param {number} value @param {number} decimals @param {boolean} [signed] */
export function format(value, decimals, signed = false) {
  const key = signed ? -1 - decimals : decimals;
  if (!formats.has(key)) {
    const digits = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
    formats.set(key, new Intl.NumberFormat(undefined, { ...digits, signDisplay: signed ? "exceptZero" : "auto" }));
  }
  return formats.get(key).format(value);
}

export class Row {
  /** Where the value is in the payload; null as long as no payload had one. */
  place = null;
  value = NaN;
  first = NaN;
  decimals = 0;
  /** Shown instead of a value where there is no number. */
  text = "";
  /** When the server received the message that the value is from, in ms since the Unix epoch of this clock. */
  at = 0;
  /** Direction of the last change: -1, 0, 1. */
  direction = 0;
  count = 0;
  rate = 0;
  /** The upstream was down since; only a newer message says whether this value still holds. */
  unconfirmed = false;
  history = new History();
  frame = null;
  /** @type {import("../topic/shape.js").Kind|null} */
  kind = null;
  /** The newest trades or chat messages, where the topic has such. @type {Messages|null} */
  messages = null;
  #habit_ms = NaN;
  #counted = 0;

  /** @param {string} topic */
  constructor(topic) {
    this.topic = topic;
  }

  /**
   * Takes a message in. `chosen` is the place a person wants to see, if it has a number there.
   * @param {import("./fanline.js").Frame} frame
   * @param {number} at when the server received it, on this clock, in ms
   * @param {string|null} chosen
   */
  take(frame, at, chosen) {
    this.frame = frame;
    this.unconfirmed = false;
    this.#learnHabit(at);
    this.count += 1;
    this.#keep(frame, at);
    this.#read(at, chosen);
  }

  /** The kind is that of the first message; a book, whose changes may look like anything, is one from then on. */
  #keep(frame, at) {
    this.kind ??= kindOf(frame);
    if (this.kind === "trades") {
      this.messages ??= new Messages(TRADES_MAX);
      for (const trade of trades(frame.data)) this.messages.push({ ...trade, at });
    } else if (this.kind === "chat") {
      this.messages ??= new Messages(CHAT_MESSAGES_MAX);
      const message = chatMessage(frame.data);
      if (message) this.messages.push({ ...message, at });
    }
  }

  /** Looks at another field from now on. @param {string|null} chosen */
  choose(chosen) {
    [this.place, this.value, this.first, this.decimals, this.text] = [null, NaN, NaN, 0, ""];
    this.history.clear();
    if (this.frame) this.#read(this.at, chosen);
  }

  #read(at, chosen) {
    const { data } = this.frame;
    if (this.kind === "book" || this.kind === "chat") {
      [this.text, this.at] = [this.kind === "book" ? "order book" : this.#chatText(data), at];
      return;
    }
    if (this.place === null && chosen !== null && !Number.isNaN(valueAt(data, chosen).value)) this.place = chosen;
    this.place ??= findPlace(data);
    if (this.place === null) {
      [this.text, this.at] = [summary(data), at];
      return;
    }
    const { value, decimals } = valueAt(data, this.place);
    if (Number.isNaN(value)) return; // a message without the value does not make the value younger
    if (Number.isNaN(this.first)) this.first = value;
    this.direction = Math.sign(value - this.value) || 0;
    [this.value, this.at] = [value, at];
    this.decimals = Math.max(this.decimals, decimals);
    this.history.push(at, value);
  }

  #chatText(data) {
    const message = chatMessage(data);
    return message ? `${message.author}: ${message.text}` : summary(data);
  }

  #learnHabit(at) {
    const interval = at - this.at;
    if (!this.at || interval < 0) return;
    if (Number.isNaN(this.#habit_ms)) this.#habit_ms = interval;
    else this.#habit_ms += (interval - this.#habit_ms) * HABIT_WEIGHT;
  }

  /** Called regularly. @param {number} elapsed_ms since the last call */
  measureRate(elapsed_ms) {
    const now = ((this.count - this.#counted) * 1000) / elapsed_ms;
    this.#counted = this.count;
    this.rate += (now - this.rate) * (1 - Math.exp(-elapsed_ms / RATE_SMOOTHING_MS));
  }

  /** Whether it has been silent for far longer than its own habit. @param {number} now less the delay of the topic */
  isQuiet(now) {
    return this.count >= HABIT_UPDATES_MIN && now - this.at > Math.max(QUIET_MS_MIN, QUIET_FACTOR * this.#habit_ms);
  }

  get isNumeric() {
    return !Number.isNaN(this.value);
  }

  get change() {
    return this.value - this.first;
  }

  get percent() {
    return this.first ? (this.change / Math.abs(this.first)) * 100 : 0;
  }

  get #shownDecimals() {
    const whole = Math.max(Math.floor(Math.log10(Math.abs(this.first) || 1)) + 1, 1);
    return Math.min(this.decimals, Math.max(DIGITS_MAX - whole, 0));
  }

  get valueText() {
    return this.isNumeric ? this.formatted(this.value) : this.text;
  }

  /** Another value of the topic, written like its own. @param {number} value */
  formatted(value) {
    return Number.isNaN(value) ? "–" : format(value, this.#shownDecimals);
  }

  get changeText() {
    return this.isNumeric ? format(this.change, this.#shownDecimals, true) : "";
  }

  get percentText() {
    return this.isNumeric ? `${format(this.percent, 2, true)}%` : "";
  }
}

/** `now`, `12 s`, `3 min`, `2 h`, `5 d`. @param {number} ms */
export function age(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 1) return "now";
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  return s < 86_400 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86_400)} d`;
}
