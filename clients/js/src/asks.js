/**
 * Commands to the feed that wait for their answer. Part of `fanline.js`.
 *
 * @module asks
 */

import { AskError } from "./errors.js";

export class Asks {
  /** @type {Map<any, {resolve: (answer: any) => void, reject: (error: AskError) => void}>} by id */
  #waiting = new Map();

  /** @param {any} id @returns {Promise<any>} */
  add(id) {
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  /** Whether the message answers one. @param {any} message */
  answered(message) {
    const ask = this.#waiting.get(message.id);
    if (!ask) return false;
    this.#waiting.delete(message.id);
    if (message.op === "error") ask.reject(new AskError(message.code, message.message));
    else ask.resolve(message);
    return true;
  }

  /** The connection is over. */
  lose() {
    const lost = new AskError("connection_lost", "the connection ended before the answer came");
    for (const { reject } of this.#waiting.values()) reject(lost);
    this.#waiting.clear();
  }
}
