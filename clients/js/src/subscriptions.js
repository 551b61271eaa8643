/**
 * The subscriptions of a client: what goes to whom, and how each is doing. Part of `fanline.js`.
 *
 * @module subscriptions
 */

import { covers } from "./pattern.js";

/** @typedef {import("./subscription.js").Subscription} Subscription */
/** @typedef {import("./subscription.js").SubscriptionState} SubscriptionState */

/** @extends {Set<Subscription>} */
export class Subscriptions extends Set {
  #link;
  #place;
  #topics;
  #onTurn;
  /** @type {Map<string, Subscription[]>} */
  #routes = new Map(); // by topic; a memo, emptied whenever a subscription comes or goes

  /**
   * @param {import("./link.js").Link} link @param {import("./place.js").Place} place @param {import("./topics.js").Topics} topics
   * @param {(event: {subscription: Subscription, state: SubscriptionState, reason: string}) => void} onTurn the state of one has changed
   */
  constructor(link, place, topics, onTurn) {
    super();
    this.#link = link;
    this.#place = place;
    this.#topics = topics;
    this.#onTurn = onTurn;
  }

  /** @param {Subscription} it */
  begin(it) {
    this.add(it);
    this.#routes.clear();
  }

  /** Returns whether it had not ended yet. @param {Subscription} it @param {any} [error] why it ends, if the user did not end it */
  end(it, error) {
    if (!this.delete(it)) return false;
    this.#routes.clear();
    for (const interest of it.interests) interest.users -= 1;
    it.onEnd?.(error);
    this.#turn(it, "ended", error?.message);
    return true;
  }

  /** Those that get what comes of a topic. @param {string} topic */
  of(topic) {
    const known = this.#routes.get(topic) ?? [...this].filter(({ patterns }) => covers(patterns, topic));
    this.#routes.set(topic, known);
    return known;
  }

  /** Looks at their states. @param {Iterable<Subscription>} some */
  review(some = this) {
    for (const it of some) this.#turn(it, ...this.#stateOf(it));
  }

  /** @param {Subscription} it @returns {[SubscriptionState, string?]} */
  #stateOf(it) {
    const { interests, patterns } = it;
    const [{ refusal }] = interests;
    if (refusal && interests.every(({ refusal }) => refusal)) return ["refused", refusal];
    const isInForce = interests.every(({ isInForce, refusal }) => isInForce || refusal);
    it.wasInForce ||= isInForce;
    if (!it.wasInForce) return ["pending"];
    if (this.#link.state !== "open") return ["stale", "not connected"];
    if (!isInForce || this.#place.isReplaying) return ["stale", "catching up"];
    const troubles = patterns.map((pattern) => this.#topics.trouble(pattern));
    if (troubles.every((trouble) => trouble)) return ["stale", troubles[0]];
    return [patterns.some((pattern) => this.#topics.delayOf(pattern) > 0) ? "delayed" : "live"];
  }

  /** @param {Subscription} subscription @param {SubscriptionState} state @param {string} [reason] */
  #turn(subscription, state, reason = "") {
    if (subscription.state === "ended" || (state === subscription.state && reason === subscription.reason)) return;
    [subscription.state, subscription.reason] = [state, reason];
    this.#onTurn({ subscription, state, reason });
  }
}
