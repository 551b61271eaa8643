/**
 * What `subscribe` returns. Part of `fanline.js`.
 *
 * @module subscription
 */

/** @typedef {"pending"|"live"|"delayed"|"stale"|"refused"|"ended"} SubscriptionState */
/** How it ends, and who is told. @typedef {{signal?: AbortSignal, onEnd?: (error?: any) => void}} Ending */

export class Subscription {
  /** @type {SubscriptionState} */
  state = "pending";
  /** Why it is stale or refused. */
  reason = "";
  #leave;
  #signal;
  #abort = () => this.unsubscribe();

  /**
   * @param {string[]} patterns @param {import("./interests.js").Interest[]} interests
   * @param {(frame: any, live: boolean, text: string) => void} handler
   * @param {(it: Subscription) => void} leave @param {AbortSignal} [signal] @param {(error?: any) => void} [onEnd]
   */
  constructor(patterns, interests, handler, leave, signal, onEnd) {
    /** @readonly @type {readonly string[]} */
    this.patterns = patterns;
    /** @internal What the server knows of each of its patterns. */
    this.interests = interests;
    /** @internal */
    this.handler = handler;
    /** @internal Whether all of it was in force once. */
    this.wasInForce = false;
    /** @internal */
    this.onEnd = onEnd;
    this.#leave = leave;
    this.#signal = signal;
    signal?.addEventListener("abort", this.#abort);
  }

  /** Ends it; the handler is not called again. Patterns that nobody else uses are given back to the server. */
  unsubscribe() {
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#leave(this);
  }

  [Symbol.dispose]() {
    this.unsubscribe();
  }
}
