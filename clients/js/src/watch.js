/**
 * Watches over connections: asks a server that is silent, and knows when the machine slept, the network is gone, or the page
 * is frozen or hidden. Part of `fanline.js`, loaded once a connection has come or failed.
 *
 * It makes the client quicker and its clock more exact. Without it a connection on which nothing arrives is given up all the
 * same, after twice the heartbeat of the server, and no other transport than the first is tried.
 *
 * @module watch
 */

import { RoundTrips } from "./round_trips.js";

const BEAT_MS = 1_000;
const BEATS_PER_PING = 5;
/** A server that was silent for this long is asked whether it is there, if somebody is looking. */
const SILENT_MS = 2_000;
/** It answers within a round trip, and is asked after 2 s to 3 s of silence: beyond this it is out of reach. */
const SILENT_MS_MAX = 4_000;

/** @typedef {"open"|"loss"|"end"|"online"|"offline"|"pageshow"|"pagehide"|"freeze"|"resume"|"visibilitychange"} Happening */
/** @typedef {import("./ladder.js").Failure} Failure */

export class Watch {
  /** What is done when something happens to the connection or to the page. @type {Record<Happening, (failure?: any) => void>} */
  happens;
  /** Knows other transports, if one was needed. @type {import("./ladder.js").Ladder | undefined} */
  ladder;
  #link;
  #options;
  #owner;
  #roundTrips;
  /** @type {any} */
  #timer;
  #beats = 0;
  #beatAt = 0;
  #beatAtWall = 0; // some clocks stand still while the machine sleeps, the wall clock does not

  /** @param {import("./link.js").Link} link @param {import("./link.js").Settings} options @param {import("./link.js").Owner} owner */
  constructor(link, options, owner) {
    this.#link = link;
    this.#options = options;
    this.#owner = owner;
    this.#roundTrips = new RoundTrips(owner.clock);
    const [wake, suspend] = [() => this.#wake(), () => link.lose("the page is suspended", { retry_ms: Infinity })];
    this.happens = {
      ...{ open: () => this.#open(), loss: (failure) => this.#lost(failure), end: () => this.#end() },
      ...{ online: wake, offline: () => this.#doubt(), pageshow: wake, pagehide: suspend },
      ...{ freeze: suspend, resume: wake, visibilitychange: () => this.#look() },
    };
    this.#beatEvery(BEAT_MS);
  }

  /** A connection is open; while this was loaded, it may have been lost. */
  #open() {
    const { state, heartbeat_ms, rung } = this.#link;
    if (state !== "open") return;
    this.ladder?.worked();
    this.#beatEvery(Math.min(BEAT_MS, heartbeat_ms / 2));
    if (rung?.duplex) this.#owner.clock.silent_ms = SILENT_MS_MAX;
    this.#ping();
  }

  /** Loads what knows other transports; undefined where it cannot be had. Then the next who needs it tries again. */
  async others() {
    try {
      const { Ladder } = await import("./ladder.js");
      return (this.ladder ??= new Ladder(this.#link, this.#options, this.#owner));
    } catch (error) {
      this.#owner.onError({ op: "error", code: "not_loaded", message: String(error) });
      return undefined;
    }
  }

  /** @param {Failure} failure */
  async #lost(failure) {
    if (!this.ladder && failure.isBroken && this.#options.transports.length > 1) await this.others();
    this.ladder?.lost(failure);
  }

  #end() {
    clearInterval(this.#timer);
    this.ladder?.stop();
  }

  /** @param {number} ms */
  #beatEvery(ms) {
    clearInterval(this.#timer);
    [this.#beatAt, this.#beatAtWall] = [this.#options.clock(), Date.now()];
    this.#timer = setInterval(() => this.#beat(), ms);
  }

  #beat() {
    const now = this.#options.clock();
    const wall = Date.now();
    const slept = Math.max(now - this.#beatAt, wall - this.#beatAtWall) > 3 * BEAT_MS;
    [this.#beatAt, this.#beatAtWall] = [now, wall];
    this.#beats += 1;
    // A tab or a machine that slept has not listened: it must not conclude that nobody spoke.
    if (slept) this.#probe();
    else if (this.#beats % BEATS_PER_PING === 0 || (now - this.#link.heardAt >= SILENT_MS && !this.#options.isHidden())) this.#ping();
    this.#owner.onBeat();
  }

  #ping() {
    const sent = this.#options.clock();
    if (this.#link.state !== "open") return;
    this.#link.send({ op: "ping" }, ({ op, ts }) => {
      if (op === "pong" && this.#roundTrips.measured(sent, ts)) this.#ping();
    });
  }

  /** The server must say something soon, or it is not there. A stream that was asleep for longer than that begins anew. */
  #probe() {
    const { state, token, rung, heardAt, heartbeat_ms } = this.#link;
    if (state !== "open") return;
    if (!token?.isFresh) token?.renew();
    const isAsleep = !rung?.duplex && this.#options.clock() - heardAt > heartbeat_ms;
    if (isAsleep) return this.#link.lose("the stream was asleep", { retry_ms: 0 });
    this.#link.expect(this.#options.probe_deadline_ms);
    this.#ping();
  }

  /** The network or the user is back. A delay that the server asked for is kept. */
  #wake() {
    if (!this.#link.goodbye) this.#link.dial();
    this.#probe();
    this.ladder?.hurry();
  }

  #look() {
    this.#owner.onLook();
    if (!this.#options.isHidden()) this.#wake();
  }

  /** What the platform says of the network may be wrong: the connection is kept if it still answers. */
  #doubt() {
    const { state } = this.#link;
    if (state === "waiting") this.#link.lose("the platform says that there is no network");
    if (state !== "open") return;
    this.#owner.clock.doubt();
    this.#owner.onBeat();
    this.#probe();
  }
}
