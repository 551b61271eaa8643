/**
 * The token that says who the client is: asked for before it is needed, by one question at a time. Part of `fanline.js`.
 *
 * Its life is measured by the wall clock, which goes on while a machine sleeps.
 *
 * @module token
 */

import { within } from "./within.js";

/** A token with less than this left is not shown any more. */
const LEFT_MS_MIN = 30_000;
/** Until the server says how long a token lives, it is taken to live this long. */
const LIFE_MS = 60_000;
/** A token is renewed when this part of its life is over. */
const RENEWED_AT = 0.8;
/** A question that failed is put again after a quarter of what is left, but not sooner. */
const RETRY_MS_MIN = 1_000;
/** Longest delay of a timer. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** @typedef {"first"|"expiring"|"expired"|"refused"} TokenReason */
/** @typedef {(about: {reason: TokenReason}) => string | Promise<string>} TokenFunction */

export class Token {
  #source;
  #deadline_ms;
  #onFresh;
  #onFailed;
  /** @type {string | undefined} */
  #value;
  #expiresAt = 0;
  #isRefused = false;
  /** @type {Promise<string> | undefined} */
  #asking;
  /** @type {any} */
  #timer;

  /**
   * @param {TokenFunction} source @param {number} deadline_ms
   * @param {(token: string) => void} onFresh a token was asked for because the one that is in use ends
   * @param {(error: any) => void} onFailed there will be none
   */
  constructor(source, deadline_ms, onFresh, onFailed) {
    this.#source = source;
    this.#deadline_ms = deadline_ms;
    this.#onFresh = onFresh;
    this.#onFailed = onFailed;
  }

  /** One that can be shown now. @returns {Promise<string | undefined>} */
  async get() {
    return this.isFresh ? this.#value : this.#ask();
  }

  /** Whether it need not be asked for now. */
  get isFresh() {
    return !this.#isRefused && this.#expiresAt - Date.now() > LEFT_MS_MIN;
  }

  /** The user has a new one. @param {string} token */
  set(token) {
    this.#take(token);
  }

  /** The server has taken it. @param {number} life_ms until it ends */
  taken(life_ms) {
    if (!(life_ms > 0)) return;
    this.#expiresAt = Date.now() + life_ms;
    this.#renewIn(life_ms * RENEWED_AT);
  }

  /** The server has refused it. */
  refused() {
    this.#isRefused = true;
  }

  /** Asks for a new one and shows it. */
  renew() {
    if (this.#asking) return;
    this.#ask().then(this.#onFresh, (error) => {
      if (error?.name === "Unauthorized") return this.#onFailed(error);
      this.#renewIn(Math.max((this.#expiresAt - Date.now()) / 4, RETRY_MS_MIN));
    });
  }

  /** The connection is over; the next one asks. */
  stop() {
    clearTimeout(this.#timer);
  }

  /** @param {number} ms */
  #renewIn(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.renew(), Math.min(ms, TIMER_MS_MAX));
  }

  /** @param {string} token */
  #take(token) {
    [this.#value, this.#expiresAt, this.#isRefused] = [token, Date.now() + LIFE_MS, false];
    return token;
  }

  #ask() {
    const ends = this.#expiresAt > Date.now() ? "expiring" : "expired";
    /** @type {TokenReason} */
    const reason = this.#value === undefined ? "first" : this.#isRefused ? "refused" : ends;
    this.#asking ??= within((async () => this.#source({ reason }))(), this.#deadline_ms, "a token")
      .then((token) => this.#take(token))
      .finally(() => (this.#asking = undefined));
    return this.#asking;
  }
}
