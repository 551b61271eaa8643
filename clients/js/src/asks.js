/**
 * What is said to the feed and waits for an answer. Part of `fanline.js`.
 *
 * @module asks
 */

import { AskError } from "./errors.js";

export class Asks {
  /** @type {Map<any, {resolve: (answer: any) => void, reject: (error: AskError) => void}>} */
  #waiting = new Map(); // by id of the command

  /** @param {any} id of the command @returns {Promise<any>} the answer */
  wait(id) {
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  /** A message may be an answer; returns whether it is. @param {any} message */
  answer(message) {
    const ask = this.#waiting.get(message?.id);
    if (!ask) return false;
    this.#waiting.delete(message.id);
    if (message.op === "error") ask.reject(new AskError(message.code, message.message));
    else ask.resolve(message);
    return true;
  }

  /** The connection is lost. */
  lose() {
    for (const { reject } of this.#waiting.values()) {
      reject(new AskError("connection_lost", "the connection ended before the answer came"));
    }
    this.#waiting.clear();
  }
}
