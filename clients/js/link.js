/**
 * One WebSocket connection after the other: as long as it is not closed, someone is trying. Part of `fanline.js`.
 *
 * It knows nothing of subscriptions; what it needs of the protocol (welcome, goodbye, ping) its owner tells it.
 *
 * @module link
 */

/** The server answers at once; who needs longer for handshake and welcome, or for a probing ping, is not there. */
const HANDSHAKE_MS_MAX = 10_000;
const PROBE_MS_MAX = 5_000;
/** A connection that lasted this long was a good one: the next loss starts with a short delay again. */
const STABLE_MS = 5_000;
const BEAT_MS = 1_000;
const BEATS_PER_PING = 5;
/** A server that was silent for this long is asked whether it is there, if somebody is looking. */
const SILENT_MS = 2_000;
/** Close codes after which nobody reconnects unasked: access was withdrawn, or a newer session has taken the place. */
const TERMINAL = new Set([4503, 4509]);
/** The token was refused, or has expired; this many times in a row is for ever. */
const UNAUTHENTICATED = 4401;
const UNAUTHENTICATED_MAX = 3;
/** The server's default; its welcome says the true one. */
const HEARTBEAT_MS = 15_000;

/**
 * @typedef {object} Hooks
 * @property {(text: string) => void} onText a message has come
 * @property {() => void} onLost the connection is over; comes before the state `waiting`
 * @property {(event: {state: string, reason: string, retry_ms: number}) => void} onState
 * @property {() => void} onPing a ping is due
 * @property {() => void} onBeat a second has passed
 * @property {() => void} onDoubt the network is said to be gone
 */

export class Link {
  /** @readonly @type {import("./fanline.js").State} */
  state = "connecting";
  /** @readonly How many connections were tried; identifies this one. */
  number = 0;

  #url;
  #options;
  #hooks;
  #socket = null;
  #attempts = 0;
  #retryTimer;
  #beatTimer;
  #beats = 0;
  #beatAt = 0;
  #heardAt = 0;
  #deadline = 0; // when silence becomes a loss
  #openedAt = 0;
  #heartbeat_ms = HEARTBEAT_MS;
  #goodbye = null;
  #unauthenticated = 0; // connections in a row that ended because of the token

  /** @param {URL} url @param {Required<import("./fanline.js").Options>} options @param {Hooks} hooks */
  constructor(url, options, hooks) {
    [this.#url, this.#options, this.#hooks] = [url, options, hooks];
  }

  /** Begins; to be called once, when the owner is ready for the hooks. */
  start() {
    globalThis.addEventListener?.("online", this.#wake);
    globalThis.addEventListener?.("offline", this.#doubt);
    globalThis.document?.addEventListener("visibilitychange", this.#wake);
    this.#dial();
  }

  /** The server has greeted: the connection is open. @param {number} [heartbeat_ms] */
  welcomed(heartbeat_ms) {
    const now = this.#options.clock();
    this.#heartbeat_ms = heartbeat_ms || this.#heartbeat_ms;
    [this.#openedAt, this.#deadline] = [now, now + 2 * this.#heartbeat_ms];
    this.#setState("open");
  }

  /** The server is about to close, and says when to come back. */
  farewell(goodbye) {
    this.#goodbye = goodbye;
  }

  /** Sends if there is someone to send to; after a loss the owner tells the next connection everything anyway. */
  send(command) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(command));
  }

  /** Ends a wait for the next attempt at once. */
  reconnect() {
    if (this.state === "waiting") this.#dial();
  }

  close() {
    if (this.state === "closed") return;
    this.#end("closed by this client");
  }

  #end(reason) {
    globalThis.removeEventListener?.("online", this.#wake);
    globalThis.removeEventListener?.("offline", this.#doubt);
    globalThis.document?.removeEventListener("visibilitychange", this.#wake);
    this.#drop();
    this.#setState("closed", reason);
  }

  #dial() {
    clearTimeout(this.#retryTimer);
    this.number += 1;
    this.#goodbye = null;
    this.#beatAt = this.#heardAt = this.#options.clock();
    this.#deadline = this.#beatAt + HANDSHAKE_MS_MAX;
    const socket = new this.#options.WebSocket(this.#url.href);
    this.#socket = socket;
    socket.onmessage = (event) => {
      this.#heardAt = this.#options.clock();
      this.#deadline = this.#heardAt + 2 * this.#heartbeat_ms;
      this.#hooks.onText(event.data);
    };
    socket.onclose = (event) => this.#closed(event);
    socket.onerror = () => {}; // `close` follows and tells more
    this.#beatTimer = setInterval(() => this.#beat(), BEAT_MS);
    this.#setState("connecting");
  }

  #closed(event) {
    const isRefused = event.code === UNAUTHENTICATED;
    this.#unauthenticated = isRefused && !this.#wasStable() ? this.#unauthenticated + 1 : 0;
    if (!TERMINAL.has(event.code) && this.#unauthenticated < UNAUTHENTICATED_MAX) return this.#lost(closeReason(event));
    this.#hooks.onLost();
    this.#end(closeReason(event));
  }

  #beat() {
    const now = this.#options.clock();
    const slept = now - this.#beatAt > 3 * BEAT_MS;
    this.#beatAt = now;
    this.#beats += 1;
    // A tab or a machine that slept has not listened: it must not conclude that nobody spoke.
    if (slept) this.#probe();
    else if (now > this.#deadline) this.#lost("the server has been silent for too long");
    else if (this.#beats % BEATS_PER_PING === 0 || (now - this.#heardAt >= SILENT_MS && !isHidden())) this.#hooks.onPing();
    this.#hooks.onBeat();
  }

  #probe() {
    this.#deadline = this.#options.clock() + PROBE_MS_MAX;
    this.#hooks.onPing();
  }

  /** The network or the user is back. A delay that the server asked for is kept. */
  #wake = () => {
    if (isHidden()) return;
    if (this.state === "waiting" && !this.#goodbye) this.#dial();
    else if (this.state === "open") this.#probe();
  };

  /** What the browser says of the network may be wrong: the connection is kept if it still answers. */
  #doubt = () => {
    if (this.state !== "open") return;
    this.#hooks.onDoubt();
    this.#probe();
  };

  #drop() {
    clearTimeout(this.#retryTimer);
    clearInterval(this.#beatTimer);
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #lost(reason) {
    const { backoff_ms, backoff_max_ms, random } = this.#options;
    this.#drop();
    this.#hooks.onLost();
    if (this.#wasStable()) this.#attempts = 0;
    const bound = Math.min(backoff_max_ms, backoff_ms * 2 ** this.#attempts++);
    const retry_ms = this.#goodbye?.reconnect_ms ?? random() * bound;
    this.#retryTimer = setTimeout(() => this.#dial(), retry_ms);
    this.#setState("waiting", this.#goodbye?.message ?? reason, retry_ms);
  }

  #wasStable() {
    return this.state === "open" && this.#options.clock() - this.#openedAt > STABLE_MS;
  }

  #setState(state, reason = "", retry_ms = 0) {
    this.state = state;
    this.#hooks.onState({ state, reason, retry_ms });
  }
}

function isHidden() {
  return globalThis.document?.visibilityState === "hidden";
}

function closeReason({ code, reason }) {
  if (reason) return reason;
  return code === 1006 || !code ? "the connection failed or was cut" : `the connection was closed with code ${code}`;
}
