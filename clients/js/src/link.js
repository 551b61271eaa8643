/**
 * One connection after the other: as long as it is not closed, someone is trying. Part of `fanline.js`.
 *
 * It knows nothing of subscriptions; what it needs of the protocol (welcome, goodbye, ping) its owner tells it.
 *
 * @module link
 */

import { TRANSITIONS } from "./machine.js";
import { websocket } from "./websocket.js";

/** The server answers at once; who needs longer for handshake and welcome is not there. */
const CONNECT_MS_MAX = 10_000;
const BEAT_MS = 1_000;
const BEATS_PER_PING = 5;
/** A side that was busy has not read what waits. This is long enough for that, and short for who waits. */
const READ_MS = 50;
/** A server that was silent for this long is asked whether it is there, if somebody is looking. */
const SILENT_MS = 2_000;
/** It answers within a round trip, and is asked after 2 s to 3 s of silence: beyond this it is out of reach. */
const SILENT_MS_MAX = 4_000;
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
/** @type {(number|string)[]} */
const BROKEN = [1002, 1006, 1007];
/** The server's default; its welcome says the true one. */
const HEARTBEAT_MS = 15_000;

/** @typedef {import("./websocket.js").Loss} Loss */
/** @typedef {import("./options.js").Settings} Settings */
/** @typedef {{code: number|string, reason: string, terminal: boolean}} Closed */
/** @typedef {{state: import("./machine.js").State, reason: string, retry_ms: number, transport: string}} StateEvent */
/**
 * @typedef {object} Hooks
 * @property {() => URL | Promise<URL>} url where to connect now
 * @property {(token: string | undefined) => void} onOpen commands can be sent; first the token is shown
 * @property {(token: string) => void} onToken there is a fresh one
 * @property {(text: string) => void} onText a message has come
 * @property {(cursor?: string) => void} onLost the connection is over, and where to go on, if it knows; comes before the state `waiting`
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

  #options;
  #hooks;
  /** Asks for tokens, if a function gives them. @type {import("./token.js").Token | undefined} */
  #token;
  /** Knows other transports, if one was needed. @type {import("./ladder.js").Ladder | undefined} */
  #ladder;
  /** @type {import("./websocket.js").Connection | undefined} */
  #connection;
  #attempts = 0;
  /** @type {any} */
  #retryTimer;
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
  #at = 0; // index of the transport that is used, or tried
  #isDialled = false; // the transport is in use
  #key = ""; // under which the page keeps which transport works
  #unauthenticated = 0; // connections in a row that ended because of the token
  #life = new AbortController();

  /** @param {Settings} options @param {Hooks} hooks */
  constructor(options, hooks) {
    this.#options = options;
    this.#hooks = hooks;
  }

  /** Begins; to be called once, when the owner is ready for the hooks. */
  start() {
    const [wake, suspend] = [() => this.#wake(), () => this.#suspend()];
    const on = (/** @type {any} */ target, /** @type {Record<string, () => void>} */ hooks) => {
      for (const name in hooks) target?.addEventListener?.(name, hooks[name], this.#life);
    };
    on(globalThis, { online: wake, offline: () => this.#doubt(), pageshow: wake, pagehide: suspend });
    on(globalThis.document, { freeze: suspend, resume: wake, visibilitychange: () => this.#look() });
    this.#dial();
  }

  get transport() {
    const rung = this.#options.transports[this.#at];
    return typeof rung === "string" ? rung : rung.name;
  }

  /** The server has greeted: the connection is open. @param {number} [heartbeat_ms] */
  welcomed(heartbeat_ms) {
    const now = this.#options.clock();
    this.#heartbeat_ms = heartbeat_ms || HEARTBEAT_MS;
    this.#beatEvery(this.#heartbeat_ms);
    this.#deadline = now + 2 * this.#heartbeat_ms;
    if (this.state !== "connecting") return;
    this.#openedAt = now;
    this.#ladder?.worked(
      this.#at,
      async (rung, onText, onClose) => {
        const [token, url] = await this.#ask();
        const onOpen = () => {
          if (!rung.duplex) for (const command of this.#hooks.probe(token)) connection.send(command);
        };
        const connection = rung.open({ url, options: this.#options, onOpen, onText, onClose });
        return connection;
      },
      () => {
        this.#drop();
        this.#attempt("switch");
      },
    );
    this.#go("welcome");
  }

  /** The user has a new token. @param {string} token */
  setToken(token) {
    if (this.#token) this.#token.set(token);
    else this.#options.token = token;
    this.#hooks.onToken(token);
  }

  /** The server has taken the token. @param {number} life_ms until it ends */
  tokenTaken(life_ms) {
    this.#token?.taken(life_ms);
  }

  /** The token ends soon. */
  renewToken() {
    this.#token?.renew();
  }

  /** How long the server may be silent before that says something. */
  get silent_ms() {
    return this.isDuplex ? SILENT_MS_MAX : 2 * this.#heartbeat_ms;
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
    this.#life.abort();
    this.#drop();
    this.#go("end", reason);
    this.#hooks.onClosed({ code, reason, terminal });
  }

  #dial() {
    if (!TRANSITIONS[this.state].dial) return;
    clearTimeout(this.#retryTimer);
    this.#attempt("dial");
  }

  /** Whom to be, and where to connect. @returns {Promise<[string | undefined, URL]>} */
  async #ask() {
    const { token, token_deadline_ms } = this.#options;
    if (typeof token === "function") {
      const { Token } = await import("./token.js");
      this.#token ??= new Token(token, token_deadline_ms, this.#hooks.onToken, (error) => this.#fail(error));
    }
    return Promise.all([this.#token ? this.#token.get() : /** @type {string | undefined} */ (token), this.#hooks.url()]);
  }

  /** @returns {Promise<import("./websocket.js").Transport>} */
  async #rung() {
    const [first] = this.#options.transports;
    if (!this.#ladder && first === "websocket" && !recall(this.#key)) return websocket;
    if (!this.#ladder && typeof first !== "string") return first;
    const ladder = await this.#loadLadder().catch((error) => {
      if (first !== "websocket") throw error;
    });
    this.#at = ladder?.at ?? 0;
    return ladder?.rung() ?? websocket;
  }

  async #loadLadder() {
    const { Ladder } = await import("./ladder.js");
    return (this.#ladder ??= new Ladder(this.#options, websocket, this.#key, recall(this.#key)));
  }

  /** @param {"dial"|"switch"} transition */
  async #attempt(transition) {
    const number = (this.number += 1);
    const { connect_deadline_ms, rung_deadline_ms, token_deadline_ms, clock, transports } = this.#options;
    const isCurrent = () => number === this.number && this.state === "connecting";
    [this.#goodbye, this.#openedAt, this.#isDialled, this.#at] = [undefined, NaN, false, this.#ladder?.at ?? 0];
    this.#waitFor(2 * token_deadline_ms);
    this.#go(transition);
    try {
      const [token, url] = await this.#ask();
      if (!isCurrent()) return;
      this.#key = `fanline.transport ${url.host}`;
      this.#isDialled = true; // from here on it is the transport that fails
      const rung = await this.#rung();
      if (!isCurrent()) return;
      const hasNext = this.#ladder ? this.#ladder.hasNext : transports.length > 1;
      this.#waitFor(connect_deadline_ms ?? (hasNext ? rung_deadline_ms : CONNECT_MS_MAX));
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
      if (isCurrent()) this.#fail(error);
    }
  }

  /** Something must come within so many ms. @param {number} deadline_ms */
  #waitFor(deadline_ms) {
    const now = this.#options.clock();
    [this.#beatAt, this.#beatAtWall, this.#heardAt, this.#deadline] = [now, Date.now(), now, now + deadline_ms];
    this.#beatEvery(deadline_ms);
  }

  /** @param {any} error */
  #fail(error) {
    if (error?.name === "Unauthorized") this.#end("unauthorized", error.message, true);
    else this.#lost(`${error?.message ?? error}`, { isBroken: this.#isDialled });
  }

  /** @param {Loss} loss */
  #closed(loss) {
    const { retry_ms } = loss;
    const code = loss.code ?? 0;
    const isRefused = code === UNAUTHENTICATED;
    if (isRefused || code === ROTATED) this.#token?.refused();
    this.#unauthenticated = isRefused && !this.#wasStable() ? this.#unauthenticated + 1 : 0;
    if (loss.terminal || Number(code) >= TERMINAL || this.#unauthenticated >= UNAUTHENTICATED_MAX) {
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
      clearInterval(this.#beatTimer);
      this.#retryTimer = setTimeout(() => this.#conclude(), READ_MS);
    } else if (this.#beats % BEATS_PER_PING === 0 || (now - this.#heardAt >= SILENT_MS && !isHidden())) this.#hooks.onPing();
    this.#hooks.onBeat();
  }

  /** Nothing has come in time, unless it was read just now. */
  #conclude() {
    if (this.#options.clock() <= this.#deadline) return this.#beatEvery(2 * this.#beat_ms);
    // What came in one piece with the welcome is no proof that a stream flows.
    const isMute = !(this.#heardAt - this.#openedAt > this.#heartbeat_ms / 2);
    this.#lost("the server has been silent for too long", { isMute, isBroken: this.#isDialled });
  }

  /** The server must say something soon, or it is not there. A stream that was asleep for longer than that begins anew. */
  #probe() {
    const now = this.#options.clock();
    if (this.state !== "open") return;
    if (!this.#token?.isFresh) this.#token?.renew();
    if (!this.isDuplex && now - this.#heardAt > this.#heartbeat_ms) return this.#lost("the stream was asleep", { retry_ms: 0 });
    this.#deadline = now + this.#options.probe_deadline_ms;
    this.#hooks.onPing();
  }

  /** The network or the user is back. A delay that the server asked for is kept. */
  #wake() {
    if (!this.#goodbye) this.#dial();
    this.#probe();
    this.#ladder?.hurry();
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

  #drop() {
    clearTimeout(this.#retryTimer);
    clearInterval(this.#beatTimer);
    this.#ladder?.stop();
    this.#token?.stop();
    this.isUsable = false;
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.close();
    this.#hooks.onLost(connection?.cursor);
  }

  /** @param {string} reason @param {{retry_ms?: number, isMute?: boolean, isBroken?: boolean}} [how] */
  #lost(reason, { retry_ms, isMute = false, isBroken = false } = {}) {
    const { backoff_ms, backoff_max_ms, random, transports } = this.#options;
    const at = this.#at;
    const wasOpen = this.state === "open";
    const wasStable = this.#wasStable();
    this.#drop();
    if (wasStable) this.#attempts = 0;
    const bound = Math.min(backoff_max_ms, backoff_ms * 2 ** this.#attempts++);
    const isOffline = globalThis.navigator?.onLine === false;
    const wait_ms = this.#goodbye?.reconnect_ms ?? retry_ms ?? (isOffline ? OFFLINE_MS : random() * bound);
    if (wait_ms < Infinity) this.#retryTimer = setTimeout(() => this.#dial(), wait_ms);
    this.#go(isOffline ? "cut" : "lose", this.#goodbye?.message ?? reason, wait_ms);
    if (wasStable && !isMute) this.#ladder?.lasted();
    else if (isBroken && !isOffline && !this.#goodbye && transports.length > 1) {
      this.#loadLadder().then((ladder) => {
        // While it was loaded a connection may have opened: then this way works.
        if (this.state === "open" || !ladder.failed(at, isMute, wasOpen)) return;
        // Another attempt there would stay mute for as long again.
        if (isMute && at === this.#at && this.state === "connecting") this.#lost(reason, { retry_ms: 0 });
        if (this.state !== "waiting") return;
        this.#attempts -= 1;
        this.#dial();
      }, () => {}); // what cannot be loaded cannot help
    }
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

/** Which transport was needed a while ago, as `ladder.js` has kept it. @param {string} key */
function recall(key) {
  try {
    return sessionStorage.getItem(key) ?? undefined;
  } catch {
    return undefined; // no page, or one that may store nothing
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
