/**
 * Which transport to use: the best one that works here. Part of `fanline.js`.
 *
 * A rung has worked when a message of the server was received on it. One that fails before, that stays mute, or that dies
 * again and again soon after, is left for the next; after the last comes the first again.
 *
 * @module ladder
 */

import { websocket } from "./websocket.js";

/** @typedef {import("./websocket.js").Transport} Transport */
/** @typedef {"websocket"|"sse"|"longpoll"|"poll"} TransportName */

/** Points after which a rung is left: two failures, three short lives, or being mute once. Below the first, one failure. */
const POINTS = 6;
const FAILURE = 3;
const SHORT_LIFE = 2;
/** For how long a page's next load begins on the rung that worked. */
const KEPT_MS = 600_000;
const KEY = "fanline.transport";

/** @type {Record<string, () => Transport | Promise<Transport>>} */
const TRANSPORTS = {
  websocket: () => websocket,
  sse: async () => (await import("./sse.js")).sse,
  longpoll: async () => (await import("./poll.js")).longpoll,
  poll: async () => (await import("./poll.js")).poll,
};

export class Ladder {
  /** Index of the rung that is used. */
  at = 0;
  #rungs;
  #points = 0;

  /** @param {(TransportName | Transport)[]} rungs */
  constructor(rungs) {
    for (const rung of rungs) {
      if (typeof rung === "string" && !TRANSPORTS[rung]) throw new TypeError(`expected one of ${Object.keys(TRANSPORTS)}, found \`${rung}\``);
    }
    this.#rungs = rungs;
    if (this.hasNext) this.at = Math.max(0, rungs.findIndex((_, i) => this.name(i) === recall()));
  }

  /** Whether there is something to try when this rung does not work. */
  get hasNext() {
    return this.at < this.#rungs.length - 1;
  }

  name(at = this.at) {
    const rung = this.#rungs[at];
    return typeof rung === "string" ? rung : rung.name;
  }

  /** @param {number} [at] @returns {Transport | Promise<Transport>} */
  rung(at = this.at) {
    const rung = this.#rungs[at];
    return typeof rung === "string" ? TRANSPORTS[rung]() : rung;
  }

  /** A message has been received. */
  worked() {
    if (this.#rungs.length > 1) keep(this.at ? this.name() : "");
  }

  /** A connection has lasted. */
  lasted() {
    this.#points = 0;
  }

  /** A better rung works. @param {number} at */
  climb(at) {
    [this.at, this.#points] = [at, 0];
  }

  /**
   * A connection has failed. Returns whether another rung is to be tried at once.
   * @param {boolean} isMute nothing came in time @param {boolean} isShortLife it had been greeted
   */
  failed(isMute, isShortLife) {
    this.#points += isMute ? POINTS : isShortLife ? SHORT_LIFE : this.at ? POINTS : FAILURE;
    if (this.#points < POINTS || this.#rungs.length < 2) return false;
    this.climb((this.at + 1) % this.#rungs.length);
    return this.at > 0;
  }
}

function recall() {
  try {
    const [name, until] = (sessionStorage.getItem(KEY) ?? "").split(" ");
    return Number(until) > Date.now() ? name : "";
  } catch {
    return ""; // no page, or one that may store nothing
  }
}

/** @param {string} name */
function keep(name) {
  try {
    if (name) sessionStorage.setItem(KEY, `${name} ${Date.now() + KEPT_MS}`);
    else sessionStorage.removeItem(KEY);
  } catch {
    // as above
  }
}
