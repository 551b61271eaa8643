/**
 * What one client has said, by kind, and how much of it a case has taken notice of.
 *
 * @module runner/record
 */

export class Record {
  /** Everything, in order. */
  events = [];
  #queues = new Map();

  add(event) {
    const seen = { ...event, at: Date.now() };
    this.events.push(seen);
    this.#queue(keyOf(event.event, event.subscription)).push(seen);
    return seen;
  }

  /** What is not taken yet of one kind. @returns {object[]} */
  untaken(kind, subscription) {
    return this.#queue(keyOf(kind, subscription));
  }

  /** Frames of all subscriptions that no step has taken. */
  frames() {
    return [...this.#queues].filter(([key]) => key.startsWith("frame ")).flatMap(([, events]) => events);
  }

  #queue(key) {
    if (!this.#queues.has(key)) this.#queues.set(key, []);
    return this.#queues.get(key);
  }
}

/** Frames and states of subscriptions are in order for each subscription, other events for each kind. */
function keyOf(kind, subscription) {
  return kind === "frame" || kind === "subscription" ? `${kind} ${subscription}` : kind;
}
