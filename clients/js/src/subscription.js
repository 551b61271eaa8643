/**
 * What `subscribe` returns. Part of `fanline.js`.
 *
 * @module subscription
 */

/** @typedef {"pending"|"live"|"delayed"|"stale"|"refused"|"ended"} SubscriptionState */

export class Subscription {
  /** @type {SubscriptionState} */
  state = "pending";
  /** Why it is stale or refused. */
  reason = "";
  #leave;
  #signal;
  #abort = () => this.unsubscribe();

  /**
   * @param {string[]} patterns @param {(frame: any, live: boolean, text: string) => void} handler
   * @param {(it: Subscription) => void} leave @param {AbortSignal} [signal] @param {(error?: any) => void} [onEnd]
   */
  constructor(patterns, handler, leave, signal, onEnd) {
    /** @readonly @type {readonly string[]} */
    this.patterns = patterns;
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
