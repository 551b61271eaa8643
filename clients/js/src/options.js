/**
 * What a user of the client gives and gets: options with their defaults, and the shapes of frames and events. Part of
 * `fanline.js`.
 *
 * @module options
 */

import { checkWebSocket, websocket } from "./websocket.js";

/**
 * `kind` only of topics that are told as a whole value and changes to it.
 * @template [Data=any]
 * @typedef {{topic: string, offset: number, ts: number, kind?: "snapshot"|"delta", data: Data, data_base64?: string}} Frame
 */
/** @typedef {import("./machine.js").State} State */
/** @typedef {import("./link.js").StateEvent} StateEvent */
/** @typedef {import("./link.js").Closed} Closed */
/** @typedef {import("./subscription.js").SubscriptionState} SubscriptionState */
/** @typedef {import("./websocket.js").Transport} Transport */
/** @typedef {import("./ladder.js").TransportName} TransportName */
/** @typedef {string | import("./token.js").TokenFunction} TokenSource */
/**
 * Type of `data` in frames of a pattern, where `Topics` is for example `` {[topic: `ticker.${string}`]: Ticker} ``.
 * @template Topics, Pattern
 * @typedef {Pattern extends keyof Topics ? Topics[Pattern] : any} DataOf
 */
/**
 * Gets every frame of a subscription. `live` is false for current values and for what is replayed after a reconnect;
 * `text` is the message as received.
 * @template [Data=any]
 * @callback Handler
 * @param {Frame<Data>} frame
 * @param {boolean} live
 * @param {string} text
 */
/** @typedef {{topics: string[], reason: string, message: string, since_ms: number, ts: number, offset?: number}} Stale */
/** @typedef {{topic: string, offset: number, ts: number, reason: string, missed?: number}} Gap */
/** @typedef {{from: number, to: number, reason: string}} Skipped */
/** @typedef {{subscription: import("./subscription.js").Subscription, state: SubscriptionState, reason: string}} SubscriptionEvent */
/**
 * What `on` tells, by name.
 * @typedef {object} Events
 * @property {StateEvent} state
 * @property {SubscriptionEvent} subscription
 * @property {{late: boolean, age_ms: number}} late
 * @property {{epoch: string, offset: number, ts: number, delay_ms?: number | Record<string, number>}} view
 * @property {Stale} stale
 * @property {{topics: string[], ts: number, offset?: number}} live
 * @property {Gap} gap
 * @property {{topic: string, message: string, ts: number, offset?: number}} refused
 * @property {Skipped} skipped
 * @property {{code: string, message: string, topics?: string[]}} error
 * @property {{code: string, message: string, reconnect_ms: number}} goodbye
 */
/** @typedef {string | URL} Address of `/v1/ws`; `http:` and `https:` become `ws:` and `wss:`; relative to the page in a browser */
/**
 * @typedef {object} Options
 * @property {TokenSource} [token] who the client is; a function is asked before a token is needed
 * @property {(TransportName | Transport)[]} [transports] best first; default: `websocket`, `sse`, `longpoll`, `poll`
 * @property {"conflate"|"lossless"} [policy] what the server does when this client falls behind; default: `conflate`
 * @property {number} [every_ms] at most one update per topic and so many ms, the newest; default: every frame
 * @property {number} [hidden_every_ms] the same while the page is hidden; default: `every_ms`
 * @property {"double"|"exact"} [numbers] `exact`: integers beyond 2^53 become BigInt; default: `double`
 * @property {string} [since] cursor to resume from, as `client.cursor` gave it
 * @property {AbortSignal} [signal] ends the client
 * @property {Pick<Console, "debug"|"warn">} [logger] is told of states and errors; `console` is one
 * @property {number} [late_ms] a message that is read so much later than the server said it is late; default: 1000 and `every_ms`
 * @property {number} [backoff_ms] upper bound of the first delay before a reconnect; it doubles; default: 500
 * @property {number} [backoff_max_ms] upper bound of every delay; default: 15000
 * @property {number} [stable_ms] a connection that lasted this long makes the delays start over; default: 5000
 * @property {number} [connect_deadline_ms] an attempt without `welcome` by then has failed; default: 10000, or 3500 while there is another transport
 * @property {number} [probe_deadline_ms] a server that does not answer by then, when asked after sleep, is lost; default: 5000
 * @property {number} [token_deadline_ms] a token or URL function without an answer by then has failed; default: 10000
 * @property {number} [reprobe_ms] when a better transport is tried again, at first; doubles up to 45000; default: 5000
 * @property {number} [wait_ms] of long polls; default: 25000
 * @property {number} [poll_ms] between plain polls; default: 2000
 * @property {typeof WebSocket} [WebSocket] implementation to use; default: the global one
 * @property {typeof fetch} [fetch] implementation to use; default: the global one
 * @property {() => number} [random] in [0, 1); default: Math.random
 * @property {() => number} [clock] milliseconds since the Unix epoch; default: the monotonic clock of `performance`
 */
/**
 * Options with the defaults of every connection; what only the other transports use has its default there.
 * @typedef {Omit<Options, "transports"> & Required<Pick<Options, "backoff_ms" | "backoff_max_ms" | "stable_ms"
 *   | "probe_deadline_ms" | "token_deadline_ms" | "random" | "clock">> & {transports: (Transport | Exclude<TransportName,
 *   "websocket">)[], rung_deadline_ms: number, isHidden: () => boolean}} Settings
 */

/** @type {(TransportName | Transport)[]} */
const TRANSPORTS = ["websocket", "sse", "longpoll", "poll"];

/** @param {Options} options @returns {Settings} */
export function complete({ transports = TRANSPORTS, ...options }) {
  const { timeOrigin } = performance; // asked once: this is called for every message
  for (const it of transports) {
    if (typeof it === "string" && !TRANSPORTS.includes(it)) throw new TypeError(`expected one of ${TRANSPORTS}, found \`${it}\``);
  }
  const settings = {
    WebSocket: globalThis.WebSocket,
    backoff_ms: 500,
    backoff_max_ms: 15_000,
    stable_ms: 5_000,
    probe_deadline_ms: 5_000,
    token_deadline_ms: 10_000,
    rung_deadline_ms: 3_500, // four round trips of a slow radio
    random: Math.random,
    clock: () => timeOrigin + performance.now(),
    isHidden: () => globalThis.document?.visibilityState === "hidden",
    ...options,
    transports: transports.map((it) => (it === "websocket" ? websocket : it)),
  };
  if (String(transports) === "websocket") checkWebSocket(settings);
  return settings;
}

/** At most one update per topic and so many ms. @param {Settings} settings */
export function paceOf({ every_ms = 0, hidden_every_ms = 0, isHidden }) {
  return Math.max(every_ms, isHidden() ? hidden_every_ms : 0);
}
