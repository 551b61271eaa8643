/**
 * One connection for all tabs of a browser: in a SharedWorker, or else in one of the tabs, which the others take over from
 * when it goes. Where neither is to be had, each tab has its own.
 *
 * Clients with the same `name`, address and options share. The name stands for the user, too: give other users other names.
 *
 * @module shared
 */

import { AskError, checkPattern, Fanline, matches, TRANSITIONS, Unauthorized } from "./fanline.js";
import { Hub } from "./hub.js";

export { AskError, checkPattern, matches, TRANSITIONS, Unauthorized };

/** Pages with another version of the protocol between tab and worker do not share with this one. */
const VERSION = 1;
/** A leader answers at once; a page that is about to lead needs a moment. */
const GREETING_MS = 2_000;

/** @typedef {import("./fanline.js").Options & {name?: string}} SharedOptions */
/** @typedef {import("./websocket.js").Request} Request */
/** @typedef {{post: (message: any) => void, close: () => void}} Way to a hub */
/** @typedef {{url: string, pace: number, hasToken: boolean}} Terms */

/**
 * As `connect` of `fanline.js`, with a connection that all tabs share.
 * @template {object} [Topics=Record<string, any>]
 * @param {import("./fanline.js").Address | (() => import("./fanline.js").Address | Promise<import("./fanline.js").Address>)} url
 * @param {SharedOptions} [options] `name`: who shares; default: "" @returns {Fanline<Topics>}
 */
export function connect(url, { name = "", token, transports, ...options } = {}) {
  const { logger, signal, ...plain } = options;
  const transport = {
    name: "shared",
    duplex: true,
    open: (/** @type {Request} */ request) => new SharedConnection(request, name, token, { ...plain, transports }),
  };
  return new Fanline(url, { connect_deadline_ms: 60_000, ...options, transports: [transport] });
}

/** The connection of one client to the hub. */
class SharedConnection {
  #request;
  #token;
  /** @type {Way | undefined} */
  #way;
  #isOver = false;

  /** @param {Request} request @param {string} name @param {import("./fanline.js").TokenSource | undefined} token @param {Record<string, any>} options */
  constructor(request, name, token, options) {
    this.#request = request;
    this.#token = token;
    const url = new URL(request.url);
    const policy = url.searchParams.get("policy") ?? undefined;
    const pace = Number.parseInt(url.searchParams.get("every") ?? "0", 10);
    for (const name of ["policy", "every"]) url.searchParams.delete(name);
    const plain = { ...JSON.parse(JSON.stringify(options)), policy, every_ms: undefined, hidden_every_ms: undefined, since: undefined };
    const key = `fanline ${VERSION} ${JSON.stringify([name, url, plain])}`;
    const terms = { url: url.href, pace, hasToken: token !== undefined };
    queueMicrotask(() => {
      if (this.#isOver) return;
      this.#way = wayTo(key, plain, terms, (message) => this.#hear(message));
      request.onOpen();
    });
  }

  /** @param {Record<string, any>} command */
  send(command) {
    if (command.op === "auth" && typeof this.#token !== "function") this.#token = command.token;
    this.#way?.post({ command });
  }

  close() {
    this.#isOver = true;
    this.#way?.post({ bye: true });
    this.#way?.close();
  }

  /** @param {any} message */
  #hear({ text, close, ask, reason }) {
    if (this.#isOver) return;
    if (text !== undefined) this.#request.onText(text);
    else if (ask !== undefined) this.#answer(ask, reason);
    else if (close) {
      this.#isOver = true;
      this.#way?.close();
      this.#request.onClose(close);
    }
  }

  /** @param {number} ask @param {import("./token.js").TokenReason} reason */
  async #answer(ask, reason) {
    const token = this.#token;
    try {
      this.#way?.post({ answer: { ask, token: typeof token === "function" ? await token({ reason }) : token } });
    } catch (error) {
      this.#way?.post({ answer: { ask, error: String(error), isUnauthorized: /** @type {any} */ (error)?.name === "Unauthorized" } });
    }
  }
}

/** @type {Map<string, Home>} by key: what this page may have to do for the others */
const homes = new Map();
/** Set where a worker could not be had: it is not tried again. */
let hasNoWorker = typeof SharedWorker === "undefined";

/** @param {string} key @param {any} options @param {Terms} terms @param {(message: any) => void} hear @returns {Way} */
function wayTo(key, options, terms, hear) {
  if (!hasNoWorker) {
    try {
      return wayToWorker(key, options, terms, hear);
    } catch {
      hasNoWorker = true; // the module is of another origin, or a policy forbids workers
    }
  }
  const home = homes.get(key) ?? new Home(key, options);
  homes.set(key, home);
  return home.enter(terms, hear);
}

/** @param {string} key @param {any} options @param {Terms} terms @param {(message: any) => void} hear @returns {Way} */
function wayToWorker(key, options, terms, hear) {
  const worker = new SharedWorker(new URL("./shared_worker.js", import.meta.url), { type: "module", name: key });
  worker.onerror = () => {
    hasNoWorker = true;
    hear({ close: { reason: "the worker cannot be started", retry_ms: 1 } });
  };
  const lock = holdLock();
  worker.port.onmessage = ({ data }) => hear(data);
  lock.name.then((name) => worker.port.postMessage({ hello: terms, options, lock: name }));
  return {
    post: (message) => lock.name.then(() => worker.port.postMessage(message)),
    close: () => lock.name.then(() => {
      lock.release();
      worker.port.close();
    }),
  };
}

/** A lock that is free when this page is gone, however it went. */
function holdLock() {
  const name = `fanline tab ${crypto.getRandomValues(new Uint32Array(4)).join("")}`;
  let release = () => {};
  /** @type {Promise<string | undefined>} */
  const held = new Promise((resolve) => {
    if (!globalThis.navigator?.locks) return resolve(undefined);
    navigator.locks.request(name, () => {
      resolve(name);
      return new Promise((it) => (release = () => it(undefined)));
    }).catch(() => resolve(undefined));
  });
  return { name: held, release: () => release() };
}

/** Waits until the page that holds the lock is gone. @param {string} name @param {() => void} onGone */
export function whenGone(name, onGone) {
  navigator.locks.request(name, onGone).catch(() => {});
}

/** The hub of this page, or the way to that of another: whoever has the lock leads. */
class Home {
  #key;
  #options;
  #hub;
  #isLeader = false;
  /** @type {BroadcastChannel | undefined} */
  #channel;
  /** @type {Map<string, {hear: (message: any) => void, terms: Terms, said: any[], isIn: boolean, isGreeted: boolean, timer?: any}>}
   * clients of this page, by name; `said` is what no leader has confirmed */
  #guests = new Map();
  /** @type {Map<string, import("./hub.js").Session>} clients of all pages, by name, where this page leads */
  #sessions = new Map();
  #resign = () => {};
  #lock = holdLock();

  /** @param {string} key @param {any} options */
  constructor(key, options) {
    this.#key = key;
    this.#options = options;
    this.#hub = new Hub(options);
    if (!globalThis.navigator?.locks || !globalThis.BroadcastChannel) {
      this.#isLeader = true;
      return;
    }
    this.#channel = new BroadcastChannel(key);
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    globalThis.addEventListener?.("pagehide", () => this.#leave());
    globalThis.document?.addEventListener("freeze", () => this.#leave());
    this.#candidate();
  }

  /** A client of this page comes. @param {Terms} terms @param {(message: any) => void} hear @returns {Way} */
  enter(terms, hear) {
    const from = crypto.getRandomValues(new Uint32Array(4)).join("");
    const guest = { hear, terms, said: /** @type {any[]} */ ([]), isIn: false, isGreeted: false };
    this.#guests.set(from, guest);
    this.#hello(from);
    return {
      post: (message) => {
        if (!guest.isGreeted) guest.said.push(message);
        if (guest.isIn) this.#tell({ from, message });
      },
      close: () => this.#guests.delete(from),
    };
  }

  /** @param {string} from */
  async #hello(from) {
    const guest = this.#guests.get(from);
    const lock = await this.#lock.name;
    if (!guest || !this.#guests.has(from)) return;
    clearTimeout(guest.timer);
    guest.timer = setTimeout(() => guest.hear({ close: { reason: "no tab leads yet", retry_ms: 1 } }), GREETING_MS);
    const said = [...guest.said];
    guest.isIn = true;
    this.#tell({ from, hello: guest.terms, lock });
    for (const message of said) this.#tell({ from, message });
  }

  /** To the leader. @param {any} data */
  #tell(data) {
    if (this.#isLeader) this.#lead(data);
    else this.#channel?.postMessage(data);
  }

  /** @param {any} data */
  #hear(data) {
    if (data.to !== undefined) return this.#deliver(data);
    if (data.isNewLeader) this.#follow();
    else if (this.#isLeader) this.#lead(data);
  }

  /** Another page leads, or this one: who was with the one before begins anew. */
  #follow() {
    for (const [from, { isGreeted, hear }] of [...this.#guests]) {
      if (isGreeted) hear({ close: { reason: "another tab leads now", retry_ms: 1 } });
      else this.#hello(from);
    }
  }

  /** To a client of this page. @param {{to: string, message: any}} data */
  #deliver({ to, message }) {
    const guest = this.#guests.get(to);
    if (!guest) return;
    [guest.isGreeted, guest.said] = [true, []];
    clearTimeout(guest.timer);
    guest.hear(message);
  }

  /** As the leader. @param {{from: string, hello?: Terms, lock?: string, message?: any}} data */
  #lead({ from, hello, lock, message }) {
    if (hello) {
      const isOwn = this.#guests.has(from);
      const post = (/** @type {any} */ it) => {
        if (isOwn) this.#deliver({ to: from, message: it });
        else this.#channel?.postMessage({ to: from, message: it });
      };
      this.#forget(from);
      const session = this.#hub.attach({ post }, hello);
      this.#sessions.set(from, session);
      post({});
      if (lock && !isOwn) whenGone(lock, () => this.#forget(from));
    } else if (message?.bye) this.#forget(from);
    else if (message?.answer) this.#hub.answer(message.answer);
    else if (message?.command) this.#sessions.get(from)?.take(message.command);
  }

  /** @param {string} from */
  #forget(from) {
    const session = this.#sessions.get(from);
    this.#sessions.delete(from);
    if (session) this.#hub.detach(session);
  }

  /** Leads when nobody else does. */
  #candidate() {
    navigator.locks.request(this.#key, () => {
      this.#isLeader = true;
      this.#channel?.postMessage({ isNewLeader: true });
      this.#follow();
      return new Promise((resolve) => (this.#resign = () => resolve(undefined)));
    }).catch(() => {});
  }

  /** A page that is kept, and does not run, must not lead. */
  #leave() {
    if (!this.#isLeader) return;
    this.#isLeader = false;
    this.#hub.close();
    this.#sessions.clear();
    this.#resign();
    this.#candidate();
  }
}
