/**
 * The topics that the page is subscribed to, a row each. No DOM.
 *
 * @module topics
 */

import { matches } from "../../fanline.js";
import { Row } from "./row.js";

export class Topics {
  /** @type {Map<string, Row>} */
  rows = new Map();
  /** Every topic that was ever seen, for suggestions. */
  seen = new Set();
  #client;
  #hooks;
  #subscription = null;
  #chosen = null;

  /**
   * @param {ReturnType<typeof import("../../fanline.js").connect>} client
   * @param {{onFrame: (row: Row, frame: any, live: boolean) => void, onChange: () => void}} hooks `onChange`: rows have come or gone
   */
  constructor(client, hooks) {
    [this.#client, this.#hooks] = [client, hooks];
    client.on("state", ({ state }) => ["waiting", "offline"].includes(state) && this.#breakLines([">"]));
    client.on("stale", ({ topics, reason }) => {
      this.#breakLines(topics);
      for (const row of this.#concerned(topics)) row.unconfirmed = reason === "upstream_down";
    });
    client.on("skipped", () => this.#breakLines([">"]));
  }

  /** @returns {readonly string[]} */
  get patterns() {
    return this.#subscription?.patterns ?? [];
  }

  /** Subscribes to these patterns in place of those before. @param {string[]} patterns */
  want(patterns) {
    const wanted = [...new Set(patterns)];
    if (wanted.join() === this.patterns.join()) return;
    for (const topic of this.rows.keys()) if (!covers(wanted, topic)) this.rows.delete(topic);
    const before = this.#subscription;
    this.#subscription = this.#client.subscribe(wanted, (frame, live) => this.#take(frame, live));
    before?.unsubscribe();
    this.#hooks.onChange();
  }

  /** Looks at another place of the payloads, where they have a number there. @param {string} place empty: the one found */
  choose(place) {
    const chosen = place || null;
    if (chosen === this.#chosen) return;
    this.#chosen = chosen;
    for (const row of this.rows.values()) row.choose(chosen);
  }

  #take(frame, live) {
    let row = this.rows.get(frame.topic);
    // A new subscription repeats what the client holds: the newest is known already, what was before it is history.
    if (row?.frame && (row.frame === frame || frame !== this.#client.latest(frame.topic))) return;
    if (!row) {
      row = new Row(frame.topic);
      this.rows.set(frame.topic, row);
      this.seen.add(frame.topic);
      this.#hooks.onChange();
    }
    row.take(frame, frame.ts + this.#client.clockOffset, this.#chosen);
    this.#hooks.onFrame(row, frame, live);
  }

  #concerned(patterns) {
    return [...this.rows.values()].filter((row) => covers(patterns, row.topic));
  }

  /** A line drawn across a time of which nothing is known would be a lie. */
  #breakLines(patterns) {
    for (const row of this.#concerned(patterns)) row.history.gap(this.#client.now());
  }
}

const covers = (patterns, topic) => patterns.some((pattern) => matches(pattern, topic));
