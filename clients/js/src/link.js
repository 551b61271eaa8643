/**
 * One connection after the other: as long as it is not closed, someone is trying. Part of `fanline.js`.
 *
 * It knows nothing of subscriptions; what it needs of the protocol (welcome, goodbye) its owner tells it. What watches over
 * connections (`watch.js`) is loaded once one has come or failed, or something happens to the page; where it cannot be had,
 * this goes on without it.
 *
 * @module link
 */

import { TRANSITIONS } from "./machine.js";

/** The server answers at once; who needs longer for handshake and welcome is not there. */
const CONNECT_MS_MAX = 10_000;
/** A side that was busy has not read what waits. This is long enough for that, and short for who waits. */
const READ_MS = 50;
/** A platform that says that there is no network may be wrong, and may not tell when it is back. */
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
/** What a command without an answer is told when the connection is over. */
const LOST = { op: "lost", code: "connection_lost", message: "the connection ended before the answer came" };

/** @typedef {import("./websocket.js").Loss} Loss */
/** @typedef {import("./options.js").Settings} Settings */
/** @typedef {{code: number|string, reason: string, terminal: boolean}} Closed */
/** @typedef {{state: import("./machine.js").State, reason: string, retry_ms: number, transport: string}} StateEvent */
/**
 * @typedef {object} Owner
 * @property {() => URL | Promise<URL>} url where to connect now
 * @property {() => void} onOpen commands can be sent; the token has been shown
 * @property {(text: string) => void} onText a message has come
 * @property {(cursor?: string) => void} onLost the connection is over, and where to go on, if it knows; comes before the state `waiting`
 * @property {(event: StateEvent) => void} onState
 * @property {(closed: Closed) => void} onClosed
 * @property {(error: {op: "error", code: string, message: string}) => void} onError a part could not be loaded
 * @property {() => void} onBeat time has passed
 * @property {() => void} onLook whether somebody is looking has changed
 * @property {() => Record<string, any>} probe a command that makes the server of a one-way stream say something
 * @property {import("./clock.js").Clock} clock
 */

export class Link {
  /** @type {import("./machine.js").State} */
  state = "idle";
  /** How many connections were tried; identifies this one. */
  number = 0;
  /** Index of the transport that is used, or tried. */
  at = 0;
  /** That transport, once it is there. @type {import("./websocket.js").Transport | undefined} */
  rung;
  /** Whether commands can be sent. */
  isUsable = false;
  openedAt = NaN;
  /** When something came last. */
  heardAt = 0;
  heartbeat_ms = HEARTBEAT_MS;
  /** What the server said before it closed: when to come back. @type {any} */
  goodbye;
  /** Under which the page keeps which transport works. */
  key = "";
  /** Asks for tokens, if a function gives them. @type {import("./token.js").Token | undefined} */
  token;
  /** @type {import("./watch.js").Watch | undefined} */
  watch;

  #options;
  #owner;
  /** @type {import("./websocket.js").Connection | undefined} */
  #connection;
  #attempts = 0;
  /** Of the next attempt, or of the deadline of this one. @type {any} */
  #timer;
  #deadline = 0; // when silence becomes a loss
  #isDialled = false; // the transport is in use
  #unauthenticated = 0; // connections in a row that ended because of the token
  #id = 0; // of the newest command
  /** @type {Map<any, (answer: any) => void>} */
  #asks = new Map(); // by id: commands without an answer
  #life = new AbortController();

  /** @param {Settings} options @param {Owner} owner */
  constructor(options, owner) {
    this.#options = options;
    this.#owner = owner;
  }

  get transport() {
    const rung = /** @type {any} */ (this.#options.transports[this.at]);
    return /** @type {string} */ (rung.name ?? rung);
  }

  /** Begins; to be called once, when the owner is ready. */
  start() {
    const on = (/** @type {any} */ target, /** @type {import("./watch.js").Happening[]} */ names) => {
      for (const name of names) target?.addEventListener?.(name, () => this.#supervise(name), this.#life);
    };
    on(globalThis, ["online", "offline", "pageshow", "pagehide"]);
    on(globalThis.document, ["freeze", "resume", "visibilitychange"]);
    this.dial();
  }

  /** Ends a wait for the next attempt at once. */
  dial() {
    if (TRANSITIONS[this.state].dial) this.#attempt("dial");
  }

  /** A better transport works. */
  change() {
    this.#drop();
    this.#attempt("switch");
  }

  /** The server has greeted: the connection is open. @param {number} [heartbeat_ms] */
  welcomed(heartbeat_ms) {
    this.heartbeat_ms = heartbeat_ms || HEARTBEAT_MS;
    this.#owner.clock.silent_ms = 2 * this.heartbeat_ms;
    this.expect(2 * this.heartbeat_ms);
    if (this.state !== "connecting") return;
    this.openedAt = this.#options.clock();
    this.#go("welcome");
    this.#supervise("open");
  }

  /** The user has a new token. @param {string} token */
  setToken(token) {
    if (this.token) this.token.set(token);
    else this.#options.token = token;
    this.#show(token);
  }

  /**
   * Sends if there is someone to send to; after a loss the owner tells the next connection everything anyway.
   * @param {Record<string, any>} command @param {(answer: any) => void} [onAnswer]
   */
  send(command, onAnswer) {
    if (!this.isUsable) return;
    const id = ++this.#id;
    if (onAnswer) this.#asks.set(id, onAnswer);
    this.#connection?.send({ ...command, id });
  }

  /** Whether it was the answer to a command. @param {any} message */
  answered(message) {
    const ask = this.#asks.get(message.id);
    this.#asks.delete(message.id);
    ask?.(message);
    return ask !== undefined;
  }

  /** Something must come within so many ms. @param {number} ms */
  expect(ms) {
    const { clock } = this.#options;
    this.#deadline = clock() + ms;
    this.#later(ms, () =>
      this.#later(READ_MS, () => {
        const left_ms = this.#deadline - clock();
        if (left_ms > 0) return this.expect(left_ms);
        // What came in one piece with the welcome is no proof that a stream flows.
        const isMute = !(this.heardAt - this.openedAt > this.heartbeat_ms / 2);
        this.lose("the server has been silent for too long", { isMute, isBroken: this.#isDialled });
      }),
    );
  }

  /** @param {number|string} [code] @param {string} [reason] @param {boolean} [terminal] */
  close(code = "closed", reason = "closed by this client", terminal = false) {
    if (this.state === "closed") return;
    this.#life.abort();
    this.watch?.happens.end();
    this.#drop();
    this.#go("end", reason);
    this.#owner.onClosed({ code, reason, terminal });
  }

  /** Whom to be, and where to connect. @returns {Promise<[string | undefined, URL]>} */
  async ask() {
    const { token, token_deadline_ms } = this.#options;
    if (typeof token === "function") {
      const { Token } = await import("./token.js");
      this.token ??= new Token(token, token_deadline_ms, (fresh) => this.#show(fresh), (error) => this.#fail(error));
    }
    return Promise.all([this.token ? this.token.get() : /** @type {string | undefined} */ (token), this.#owner.url()]);
  }

  /**
   * The connection, or the attempt, is over.
   * @param {string} reason @param {{retry_ms?: number, isMute?: boolean, isBroken?: boolean}} [how] `isMute`: nothing came in time;
   *   `isBroken`: the transport may be to blame
   */
  lose(reason, { retry_ms, isMute, isBroken } = {}) {
    const { backoff_ms, backoff_max_ms, random } = this.#options;
    const { at, goodbye } = this;
    const wasOpen = this.state === "open";
    const wasStable = this.#wasStable();
    this.#drop();
    if (wasStable) this.#attempts = 0;
    const bound = Math.min(backoff_max_ms, backoff_ms * 2 ** this.#attempts++);
    const isOffline = globalThis.navigator?.onLine === false;
    const wait_ms = goodbye?.reconnect_ms ?? retry_ms ?? (isOffline && this.watch ? OFFLINE_MS : random() * bound);
    if (wait_ms < Infinity) this.#later(wait_ms, () => this.dial());
    this.#go(isOffline ? "cut" : "lose", goodbye?.message ?? reason, wait_ms);
    this.#supervise("loss", { at, isMute, isBroken: isBroken && !isOffline && !goodbye, wasOpen, wasStable });
  }

  /** The next attempt does not wait, and is none of those that make the waits longer. */
  hurry() {
    this.#attempts -= 1;
    this.dial();
  }

  /** @param {"dial"|"switch"} transition */
  async #attempt(transition) {
    const number = (this.number += 1);
    const { connect_deadline_ms, rung_deadline_ms, token_deadline_ms, clock, transports } = this.#options;
    const isCurrent = () => number === this.number && this.state === "connecting";
    [this.goodbye, this.openedAt, this.#isDialled, this.at] = [undefined, NaN, false, this.watch?.ladder?.at ?? 0];
    this.heardAt = clock();
    this.expect(2 * token_deadline_ms);
    this.#go(transition);
    try {
      const [token, url] = await this.ask();
      if (!isCurrent()) return;
      this.key = `fanline.transport ${url.host}`;
      this.#isDialled = true; // from here on it is the transport that fails
      const rung = await this.#transport();
      if (!isCurrent()) return;
      this.expect(connect_deadline_ms ?? (this.at < transports.length - 1 ? rung_deadline_ms : CONNECT_MS_MAX));
      this.rung = rung;
      this.#connection = rung.open({
        url,
        options: this.#options,
        onOpen: () => {
          this.isUsable = true;
          this.#show(token);
          this.#owner.onOpen();
        },
        onText: (text) => {
          this.heardAt = clock();
          if (this.state === "open") this.#deadline = this.heardAt + 2 * this.heartbeat_ms;
          this.#owner.onText(text);
        },
        onClose: (loss) => this.#closed(loss),
      });
    } catch (error) {
      if (isCurrent()) this.#fail(error);
    }
  }

  /** @returns {Promise<import("./websocket.js").Transport>} */
  async #transport() {
    const [first] = this.#options.transports;
    const kept = recall(this.key);
    const isHere = typeof first !== "string";
    if (isHere && !this.at && !kept) return first;
    const ladder = await (await this.#watcher())?.others();
    if (ladder) return ladder.rung((this.at = ladder.begin(kept)));
    if (isHere) return first;
    throw new Error(`the transport ${first} cannot be loaded`);
  }

  /** What watches over connections; undefined where it cannot be had. Then the next who needs it tries again. */
  async #watcher() {
    try {
      const { Watch } = await import("./watch.js");
      if (this.state !== "closed") this.watch ??= new Watch(this, this.#options, this.#owner);
    } catch (error) {
      this.#owner.onError({ op: "error", code: "not_loaded", message: String(error) });
    }
    return this.watch;
  }

  /** @param {import("./watch.js").Happening} happening @param {import("./watch.js").Failure} [failure] */
  async #supervise(happening, failure) {
    (this.watch ?? (await this.#watcher()))?.happens[happening](failure);
  }

  /** @param {string | undefined} token */
  #show(token) {
    if (token) this.send({ op: "auth", token });
  }

  /** @param {any} error */
  #fail(error) {
    if (error?.name === "Unauthorized") this.close("unauthorized", error.message, true);
    else this.lose(`${error?.message ?? error}`, { isBroken: this.#isDialled });
  }

  /** @param {Loss} loss */
  #closed(loss) {
    const { code = 0, retry_ms, terminal } = loss;
    const isRefused = code === UNAUTHENTICATED;
    if (isRefused || code === ROTATED) this.token?.refused();
    this.#unauthenticated = isRefused && !this.#wasStable() ? this.#unauthenticated + 1 : 0;
    if (terminal || Number(code) >= TERMINAL || this.#unauthenticated >= UNAUTHENTICATED_MAX) {
      return this.close(code, closeReason(loss), true);
    }
    const isBroken = isNaN(this.openedAt) ? !isRefused && !retry_ms : BROKEN.includes(code);
    if (retry_ms) this.goodbye ??= { reconnect_ms: retry_ms };
    this.lose(closeReason(loss), { isBroken });
  }

  #drop() {
    clearTimeout(this.#timer);
    this.token?.stop();
    this.isUsable = false;
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.close();
    for (const ask of this.#asks.values()) ask(LOST);
    this.#asks.clear();
    this.#owner.onLost(connection?.cursor);
  }

  #wasStable() {
    return this.#options.clock() - this.openedAt > this.#options.stable_ms;
  }

  /** @param {number} ms @param {() => void} fn */
  #later(ms, fn) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(fn, ms);
  }

  /** @param {import("./machine.js").Transition} transition @param {string} [reason] @param {number} [retry_ms] */
  #go(transition, reason = "", retry_ms = 0) {
    const state = TRANSITIONS[this.state][transition];
    if (!state) return;
    this.state = state;
    this.#owner.onState({ state, reason, retry_ms, transport: this.transport });
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

/** @param {Loss} loss */
function closeReason({ code, reason }) {
  if (reason) return reason;
  return code === 1006 || !code ? "the connection failed or was cut" : `the connection was closed with code ${code}`;
}
