/**
 * One connection after the other: as long as it is not closed, someone is trying. Part of `fanline.js`.
 *
 * It knows nothing of subscriptions; what it needs of the protocol (welcome, goodbye, ping) its owner tells it.
 *
 * @module link
 */

import { Ladder } from "./ladder.js";
import { TRANSITIONS } from "./machine.js";
import { Token, Unauthorized, within } from "./token.js";

/** The server answers at once; who needs longer for handshake and welcome is not there. */
const CONNECT_MS_MAX = 10_000;
/** The same while there is another transport to try: four round trips of a slow radio. */
const RUNG_MS_MAX = 3_500;
/** Longest wait before a better transport is tried again: a free way is found within a minute. */
const REPROBE_MS_MAX = 45_000;
const BEAT_MS = 1_000;
const BEATS_PER_PING = 5;
/** A server that was silent for this long is asked whether it is there, if somebody is looking. */
const SILENT_MS = 2_000;
/** A platform that says that there is no network may be wrong. */
const OFFLINE_MS = 60_000;
/** Close codes from here on are for ever. */
const TERMINAL = 4500;
/** The token was refused, or has expired; this many times in a row is for ever. */
const UNAUTHENTICATED = 4401;
const UNAUTHENTICATED_MAX = 3;
/** The operator asks for a reconnect with a fresh token. */
const ROTATED = 4412;
/** Close codes of a connection that something on its way has broken. */
const BROKEN = [1002, 1006, 1007];
/** The server's default; its welcome says the true one. */
const HEARTBEAT_MS = 15_000;

/** @typedef {import("./websocket.js").Loss} Loss */
/**
 * Options with their defaults.
 * @typedef {import("./fanline.js").Options & Required<Pick<import("./fanline.js").Options, "transports" | "backoff_ms"
 *   | "backoff_max_ms" | "stable_ms" | "probe_deadline_ms" | "token_deadline_ms" | "reprobe_ms" | "wait_ms" | "poll_ms"
 *   | "random" | "clock" | "fetch">>} Settings
 */
/** @typedef {{code: number|string, reason: string, terminal: boolean}} Closed */
/** @typedef {{state: import("./machine.js").State, reason: string, retry_ms: number, transport: string}} StateEvent */
/**
 * @typedef {object} Hooks
 * @property {() => URL | Promise<URL>} url where to connect now
 * @property {(token: string | undefined) => void} onOpen commands can be sent; first the token is shown
 * @property {(token: string) => void} onToken there is a fresh one
 * @property {(text: string) => void} onText a message has come
 * @property {() => void} onLost the connection is over; comes before the state `waiting`
 * @property {(event: StateEvent) => void} onState
 * @property {(closed: Closed) => void} onClosed
 * @property {(token: string | undefined) => Record<string, any>[]} probe the commands that make a server of one-way streams say something
 * @property {() => void} onPing a ping is due
 * @property {() => void} onBeat a second has passed
 * @property {() => void} onDoubt the network is said to be gone
 * @property {() => void} onLook whether somebody is looking has changed
 */

export class Link {
  /** @type {import("./machine.js").State} */
  state = "idle";
  /** How many connections were tried; identifies this one. */
  number = 0;
  /** Whether commands can be sent. */
  isUsable = false;
  /** Whether the server answers. */
  isDuplex = false;
  /** How much later than usual messages are read on this transport, in ms. */
  late_ms = 0;
  token;

  #options;
  #hooks;
  #ladder;
  /** @type {import("./websocket.js").Connection | undefined} */
  #connection;
  #attempts = 0;
  /** @type {any} */
  #retryTimer;
  /** @type {any} */
  #reprobeTimer;
  #reprobes = 0;
  /** @type {((reason?: any) => void) | undefined} */
  #stopProbe;
  /** @type {any} */
  #beatTimer;
  #beats = 0;
  #beat_ms = BEAT_MS;
  #beatAt = 0;
  #beatAtWall = 0; // some clocks stand still while the machine sleeps, the wall clock does not
  #heardAt = 0;
  #deadline = 0; // when silence becomes a loss
  #openedAt = NaN;
  #heartbeat_ms = HEARTBEAT_MS;
  /** @type {any} */
  #goodbye;
  #unauthenticated = 0; // connections in a row that ended because of the token
  /** @type {[any, string, () => void][]} */
  #listeners;

  /** @param {Settings} options @param {Hooks} hooks */
  constructor(options, hooks) {
    this.#options = options;
    this.#hooks = hooks;
    this.#ladder = new Ladder(options.transports);
    this.token = new Token(options.token, options.token_deadline_ms, hooks.onToken, (error) => this.#fail(error));
    const { document } = globalThis;
    this.#listeners = [
      [globalThis, "online", () => this.#wake()],
      [globalThis, "offline", () => this.#doubt()],
      [globalThis, "pageshow", () => this.#wake()],
      [globalThis, "pagehide", () => this.#suspend()],
      [document, "freeze", () => this.#suspend()],
      [document, "resume", () => this.#wake()],
      [document, "visibilitychange", () => this.#look()],
    ];
  }

  /** Begins; to be called once, when the owner is ready for the hooks. */
  start() {
    for (const [target, name, fn] of this.#listeners) target?.addEventListener?.(name, fn);
    this.#dial();
  }

  get transport() {
    return this.#ladder.name();
  }

  /** The server has greeted: the connection is open. @param {number} [heartbeat_ms] */
  welcomed(heartbeat_ms) {
    const now = this.#options.clock();
    this.#heartbeat_ms = heartbeat_ms || HEARTBEAT_MS;
    this.#beatEvery(this.#heartbeat_ms);
    this.#deadline = now + 2 * this.#heartbeat_ms;
    if (this.state !== "connecting") return;
    this.#openedAt = now;
    this.#ladder.worked();
    this.#reprobes = 0;
    this.#reprobeLater();
    this.#go("welcome");
  }

  /** How long the server may be silent before that says something. */
  get silent_ms() {
    return 2 * this.#heartbeat_ms;
  }

  /** The server is about to close, and says when to come back. @param {any} goodbye */
  farewell(goodbye) {
    this.#goodbye = goodbye;
  }

  /** Sends if there is someone to send to; after a loss the owner tells the next connection everything anyway. @param {Record<string, any>} command */
  send(command) {
    if (this.isUsable) this.#connection?.send(command);
  }

  /** Ends a wait for the next attempt at once. */
  reconnect() {
    this.#dial();
  }

  /** @param {string} [reason] */
  close(reason = "closed by this client") {
    this.#end("closed", reason, false);
  }

  /** @param {number|string} code @param {string} reason @param {boolean} terminal */
  #end(code, reason, terminal) {
    if (this.state === "closed") return;
    for (const [target, name, fn] of this.#listeners) target?.removeEventListener?.(name, fn);
    this.#drop();
    this.#hooks.onLost();
    this.#go("end", reason);
    this.#hooks.onClosed({ code, reason, terminal });
  }

  #dial() {
    if (!TRANSITIONS[this.state].dial) return;
    clearTimeout(this.#retryTimer);
    this.#attempt("dial");
  }

  /** @param {"dial"|"switch"} transition */
  async #attempt(transition) {
    const number = (this.number += 1);
    const { connect_deadline_ms, token_deadline_ms, clock } = this.#options;
    const isCurrent = () => number === this.number && this.state === "connecting";
    [this.#goodbye, this.#openedAt, this.#deadline] = [undefined, NaN, Infinity];
    this.#go(transition);
    let isBroken = false;
    try {
      const [token, url] = await Promise.all([this.token.get(), within(this.#hooks.url(), token_deadline_ms, "a URL")]);
      if (!isCurrent()) return;
      isBroken = true; // from here on it is the transport that fails
      const rung = await this.#ladder.rung();
      if (!isCurrent()) return;
      const deadline_ms = connect_deadline_ms ?? (this.#ladder.hasNext ? RUNG_MS_MAX : CONNECT_MS_MAX);
      [this.#beatAt, this.#beatAtWall, this.#heardAt] = [clock(), Date.now(), clock()];
      this.#deadline = this.#beatAt + deadline_ms;
      this.#beatEvery(deadline_ms);
      this.isDuplex = rung.duplex === true;
      this.late_ms = rung.late_ms?.(this.#options) ?? 0;
      this.#connection = rung.open({
        url,
        options: this.#options,
        onOpen: () => {
          this.isUsable = true;
          this.#hooks.onOpen(token);
        },
        onText: (text) => {
          this.#heardAt = clock();
          if (this.state === "open") this.#deadline = this.#heardAt + 2 * this.#heartbeat_ms;
          this.#hooks.onText(text);
        },
        onClose: (loss) => this.#closed(loss),
      });
    } catch (error) {
      if (isCurrent()) this.#fail(error, isBroken);
    }
  }

  /** @param {any} error @param {boolean} [isBroken] */
  #fail(error, isBroken) {
    if (error instanceof Unauthorized) this.#end("unauthorized", error.message, true);
    else this.#lost(String(error?.message ?? error), { isBroken });
  }

  /** @param {Loss} loss */
  #closed(loss) {
    const { code = 0, retry_ms } = loss;
    const isRefused = code === UNAUTHENTICATED;
    if (isRefused || code === ROTATED) this.token.refused();
    this.#unauthenticated = isRefused && !this.#wasStable() ? this.#unauthenticated + 1 : 0;
    if (loss.terminal || code >= TERMINAL || this.#unauthenticated >= UNAUTHENTICATED_MAX) {
      return this.#end(code, closeReason(loss), true);
    }
    const isBroken = isNaN(this.#openedAt) ? !isRefused && !retry_ms : BROKEN.includes(code);
    if (retry_ms) this.#goodbye ??= { reconnect_ms: retry_ms };
    this.#lost(closeReason(loss), { isBroken });
  }

  /** @param {number} deadline_ms the shortest there is */
  #beatEvery(deadline_ms) {
    clearInterval(this.#beatTimer);
    this.#beat_ms = Math.min(BEAT_MS, deadline_ms / 2);
    this.#beatTimer = setInterval(() => this.#beat(), this.#beat_ms);
  }

  #beat() {
    const now = this.#options.clock();
    const wall = Date.now();
    const slept = Math.max(now - this.#beatAt, wall - this.#beatAtWall) > 3 * BEAT_MS;
    [this.#beatAt, this.#beatAtWall] = [now, wall];
    this.#beats += 1;
    // A tab or a machine that slept has not listened: it must not conclude that nobody spoke.
    if (slept) this.#probe();
    else if (now > this.#deadline) {
      // What came in one piece with the welcome is no proof that a stream flows.
      const isMute = !(this.#heardAt - this.#openedAt > this.#heartbeat_ms / 2);
      return this.#lost("the server has been silent for too long", { isMute, isBroken: true });
    } else if (this.#beats % BEATS_PER_PING === 0 || (now - this.#heardAt >= SILENT_MS && !isHidden())) this.#hooks.onPing();
    this.#hooks.onBeat();
  }

  /** The server must say something soon, or it is not there. A stream that was asleep for longer than that begins anew. */
  #probe() {
    const now = this.#options.clock();
    if (this.state !== "open") return;
    if (!this.token.isFresh) this.token.renew();
    if (!this.isDuplex && now - this.#heardAt > this.#heartbeat_ms) return this.#lost("the stream was asleep", { retry_ms: 0 });
    this.#deadline = now + this.#options.probe_deadline_ms;
    this.#hooks.onPing();
  }

  /** The network or the user is back. A delay that the server asked for is kept. */
  #wake() {
    if (!this.#goodbye) this.#dial();
    this.#probe();
    this.#reprobe();
  }

  #look() {
    this.#hooks.onLook();
    if (!isHidden()) this.#wake();
  }

  /** What the platform says of the network may be wrong: the connection is kept if it still answers. */
  #doubt() {
    if (this.state === "waiting") this.#lost("the platform says that there is no network");
    if (this.state !== "open") return;
    this.#hooks.onDoubt();
    this.#probe();
  }

  /** The page is to be kept, and does not run: an open connection would hinder that. Waking it dials. */
  #suspend() {
    if (this.state === "closed") return;
    this.#lost("the page is suspended", { retry_ms: Infinity });
  }

  /** A better transport is tried from time to time, beside the one that is used. */
  #reprobeLater() {
    clearTimeout(this.#reprobeTimer);
    if (!this.#ladder.at) return;
    const { reprobe_ms, random } = this.#options;
    const wait_ms = Math.min(REPROBE_MS_MAX, reprobe_ms * 2 ** this.#reprobes++) * (0.75 + random() / 4);
    this.#reprobeTimer = setTimeout(() => this.#reprobe(), wait_ms);
  }

  async #reprobe() {
    const { number } = this;
    const isStill = () => number === this.number && this.state === "open";
    if (!this.#ladder.at || this.#stopProbe || !isStill()) return;
    for (let at = 0; at < this.#ladder.at && isStill(); at++) {
      if (!(await this.#works(at)) || !isStill()) continue;
      this.#ladder.climb(at);
      this.#drop();
      this.#hooks.onLost();
      return this.#attempt("switch");
    }
    if (isStill()) this.#reprobeLater();
  }

  /** Whether a connection on that rung gets a message in time. @param {number} at */
  async #works(at) {
    /** @type {import("./websocket.js").Connection | undefined} */
    let connection;
    this.#stopProbe = () => {};
    try {
      const [rung, token, url] = await Promise.all([this.#ladder.rung(at), this.token.get(), this.#hooks.url()]);
      const answer = new Promise((resolve, reject) => {
        this.#stopProbe = reject;
        connection = rung.open({
          url,
          options: this.#options,
          onOpen: () => {
            if (!rung.duplex) for (const command of this.#hooks.probe(token)) connection?.send(command);
          },
          onText: resolve,
          onClose: reject,
        });
      });
      await within(answer, this.#options.connect_deadline_ms ?? RUNG_MS_MAX, "a message");
      return true;
    } catch {
      return false;
    } finally {
      this.#stopProbe = undefined;
      connection?.close();
    }
  }

  #drop() {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#reprobeTimer);
    clearInterval(this.#beatTimer);
    this.#stopProbe?.();
    this.token.stop();
    this.isUsable = false;
    this.#connection?.close();
    this.#connection = undefined;
  }

  /** @param {string} reason @param {{retry_ms?: number, isMute?: boolean, isBroken?: boolean}} [how] */
  #lost(reason, { retry_ms, isMute = false, isBroken = false } = {}) {
    const { backoff_ms, backoff_max_ms, random } = this.#options;
    const wasOpen = this.state === "open";
    const wasStable = this.#wasStable();
    this.#drop();
    this.#hooks.onLost();
    if (wasStable) this.#attempts = 0;
    if (wasStable && !isMute) this.#ladder.lasted();
    const next = !this.#goodbye && isBroken && !(wasStable && !isMute) && this.#ladder.failed(isMute, wasOpen);
    const bound = Math.min(backoff_max_ms, backoff_ms * 2 ** this.#attempts);
    if (!next) this.#attempts += 1;
    const isOffline = globalThis.navigator?.onLine === false;
    const wait_ms = this.#goodbye?.reconnect_ms ?? retry_ms ?? (next ? 0 : isOffline ? OFFLINE_MS : random() * bound);
    if (wait_ms < Infinity) this.#retryTimer = setTimeout(() => this.#dial(), wait_ms);
    this.#go(isOffline ? "cut" : "lose", this.#goodbye?.message ?? reason, wait_ms);
  }

  #wasStable() {
    return this.#options.clock() - this.#openedAt > this.#options.stable_ms;
  }

  /** @param {import("./machine.js").Transition} transition @param {string} [reason] @param {number} [retry_ms] */
  #go(transition, reason = "", retry_ms = 0) {
    const state = TRANSITIONS[this.state][transition];
    if (!state) return;
    this.state = state;
    this.#hooks.onState({ state, reason, retry_ms, transport: this.transport });
  }
}

export function isHidden() {
  return globalThis.document?.visibilityState === "hidden";
}

/** @param {Loss} loss */
function closeReason({ code, reason }) {
  if (reason) return reason;
  return code === 1006 || !code ? "the connection failed or was cut" : `the connection was closed with code ${code}`;
}
