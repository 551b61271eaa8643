/**
 * Which transport to use: the best one that works here. Loaded by `watch.js` when the first one does not work.
 *
 * A rung has worked when a message of the server was received on it. One that fails before, that stays mute, or that dies
 * again and again soon after, is left for the next; after the last comes the first again. While a lower rung is used, the
 * better ones are tried from time to time beside it.
 *
 * @module ladder
 */

import { within } from "./within.js";

/** @typedef {import("./websocket.js").Transport} Transport */
/** @typedef {"websocket"|"sse"|"longpoll"|"poll"} TransportName */
/**
 * Of a connection that is over: its rung, whether nothing came in time, whether the transport may be to blame, whether the server
 * had greeted, and whether it had lasted.
 * @typedef {{at: number, isMute?: boolean, isBroken?: boolean, wasOpen: boolean, wasStable: boolean}} Failure
 */

/** Points after which a rung is left: two failures, three short lives, or being mute once. Below the first, one failure. */
const POINTS = 6;
const FAILURE = 3;
const SHORT_LIFE = 2;
/** First wait before a better transport is tried again; it doubles. */
const REPROBE_MS = 5_000;
/** Longest wait before a better transport is tried again: a free way is found within a minute. */
const REPROBE_MS_MAX = 45_000;
/** For how long a page's next load begins on the rung that worked. */
const KEPT_MS = 600_000;
/** @type {Record<string, () => Promise<Transport>>} */
const TRANSPORTS = {
  sse: async () => (await import("./sse.js")).sse,
  longpoll: async () => (await import("./poll.js")).longpoll,
  poll: async () => (await import("./poll.js")).poll,
};

export class Ladder {
  /** Index of the rung that is used. */
  at = 0;
  #link;
  #options;
  #owner;
  #rungs;
  #isNew = true;
  #points = 0;
  /** Better transports that were tried since the best one has lasted. */
  #tries = 0;
  /** The rung that works, while a better one has to show that it lasts. @type {number | undefined} */
  #proven;
  /** @type {any} */
  #timer;
  /** @type {(() => void) | undefined} */
  #probe;
  /** @type {((reason?: any) => void) | undefined} */
  #stop;

  /** @param {import("./link.js").Link} link @param {import("./link.js").Settings} options @param {import("./link.js").Owner} owner */
  constructor(link, options, owner) {
    this.#link = link;
    this.#options = options;
    this.#owner = owner;
    this.#rungs = options.transports;
  }

  /** Where to begin, or to go on. @param {string} [kept] what the page has kept of the transport that worked; counts once */
  begin(kept = "") {
    const [name, until] = this.#isNew ? kept.split(" ") : [];
    if (Number(until) > Date.now()) this.at = Math.max(0, this.#rungs.findIndex((_, i) => this.name(i) === name));
    this.#isNew = false;
    return this.at;
  }

  name(at = this.at) {
    const rung = this.#rungs[at];
    return typeof rung === "string" ? rung : rung.name;
  }

  /** @param {number} at @returns {Promise<Transport>} */
  async rung(at) {
    const rung = this.#rungs[at];
    return typeof rung === "string" ? TRANSPORTS[rung]() : rung;
  }

  /** A connection, or an attempt, is over, maybe before the ladder was there. @param {Failure} failure */
  lost({ at, isMute = false, isBroken = false, wasOpen, wasStable }) {
    const link = this.#link;
    if (link.state !== "open") this.stop();
    if (wasStable && !isMute) return this.#lasted();
    // While the ladder was loaded a connection may have opened: then this way works.
    if (!isBroken || link.state === "open" || !this.failed(at, isMute, wasOpen)) return;
    // Another attempt there would stay mute for as long again.
    if (isMute && at === link.at && link.state === "connecting") link.lose("another transport is tried", { retry_ms: 0 });
    if (link.state === "waiting") link.hurry();
  }

  #lasted() {
    this.#climb(this.at);
    if (!this.at) this.#tries = 0;
  }

  /**
   * A connection has failed. Returns whether another rung is to be tried at once. One on a rung that has been left
   * meanwhile says nothing of the one that is used now.
   * @param {number} at its rung @param {boolean} isMute nothing came in time @param {boolean} isShortLife it had been greeted
   */
  failed(at, isMute, isShortLife) {
    if (at !== this.at) return true;
    this.#points += isMute ? POINTS : isShortLife ? SHORT_LIFE : this.at ? POINTS : FAILURE;
    if (this.#points < POINTS) return false;
    this.#climb(this.#proven ?? (this.at + 1) % this.#rungs.length);
    return this.at > 0;
  }

  /** A message has been received on the rung in use. From now on better rungs are tried, until one works or `stop` is called. */
  worked() {
    const { at, key } = this.#link;
    if (at !== this.at) this.#climb(at);
    try {
      if (at) sessionStorage.setItem(key, `${this.name()} ${Date.now() + KEPT_MS}`);
      else sessionStorage.removeItem(key);
    } catch {
      // no page, or one that may store nothing
    }
    if (at) this.#later();
  }

  /** A better rung is tried now. */
  hurry() {
    this.#probe?.();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#probe = undefined;
    this.#stop?.();
  }

  #later() {
    const { reprobe_ms = REPROBE_MS, random } = this.#options;
    const wait_ms = Math.min(REPROBE_MS_MAX, reprobe_ms * 2 ** this.#tries) * (0.75 + random() / 4);
    const probe = () => {
      if (this.#probe !== probe) return;
      clearTimeout(this.#timer);
      this.#tries += 1;
      this.#probe = () => {};
      const { at } = this;
      this.#best().then((best) => {
        if (!this.#probe) return; // stopped meanwhile
        if (best === at) return this.#later();
        this.stop();
        this.#climb(best);
        // One short life is enough for a rung that has been left before.
        [this.#points, this.#proven] = [POINTS - SHORT_LIFE, at];
        this.#link.change();
      });
    };
    this.#probe = probe;
    this.#timer = setTimeout(probe, wait_ms);
  }

  /** The first rung that works, or the one that is used. */
  async #best() {
    for (let at = 0; at < this.at && this.#probe; at++) if (await this.#works(at)) return at;
    return this.at;
  }

  /** Whether a connection on that rung gets a message in time. @param {number} at */
  async #works(at) {
    let connection;
    try {
      const rung = await this.rung(at);
      let [heard, lost] = [() => {}, () => {}];
      const answer = new Promise((resolve, reject) => {
        [heard, lost] = [() => resolve(true), () => reject()];
      });
      this.#stop = lost;
      answer.catch(() => {});
      connection = await this.#open(rung, heard, lost);
      await within(answer, this.#options.connect_deadline_ms ?? this.#options.rung_deadline_ms, "a message");
      return true;
    } catch {
      return false;
    } finally {
      connection?.close();
    }
  }

  /** A connection beside the one in use. @param {Transport} rung @param {() => void} onText @param {() => void} onClose */
  async #open(rung, onText, onClose) {
    const [token, url] = await this.#link.ask();
    const onOpen = () => {
      if (rung.duplex) return;
      // A stream begins when something is asked for.
      for (const command of [{ op: "auth", token }, this.#owner.probe()]) connection.send(command);
    };
    const connection = rung.open({ url, options: this.#options, onOpen, onText, onClose });
    return connection;
  }

  /** @param {number} at */
  #climb(at) {
    [this.at, this.#points, this.#proven] = [at, 0, undefined];
  }
}
