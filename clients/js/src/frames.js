/**
 * Frames for `for await`: what comes while the loop is busy waits here. Part of `fanline.js`.
 *
 * @module frames
 */

/** @typedef {import("./fanline.js").Frame} Frame */

/** Deltas of one topic that wait; beyond, the loop is told that it fell behind. */
const CHANGES_MAX = 10_000;

/**
 * What waits: `"latest"` keeps of each topic the newest frame (of snapshots and deltas, all since the snapshot), a number
 * that many frames, the newest, and `"all"` all.
 * @typedef {"latest"|"all"|number} Buffering
 */

export class Frames {
  /** How many frames were dropped, because the loop was too slow. */
  dropped = 0;
  #buffering;
  /** @type {Map<any, Frame[]>} by topic, or by number */
  #waiting = new Map();
  #next = 0;
  /** @type {((result?: any) => void)[]} */
  #readers = [];
  /** @type {{error?: any} | undefined} */
  #end;
  #onEnd;

  /** @param {Buffering} buffering @param {() => void} onEnd */
  constructor(buffering, onEnd) {
    this.#buffering = buffering;
    this.#onEnd = onEnd;
  }

  /** @param {Frame} frame */
  push(frame) {
    if (this.#end) return;
    const isLatest = this.#buffering === "latest";
    const key = isLatest ? frame.topic : this.#next++;
    const before = this.#waiting.get(key);
    if (before && frame.kind === "delta") {
      if (before.push(frame) > CHANGES_MAX) this.end(new Error(`the loop fell behind by ${CHANGES_MAX} changes of ${key}`));
    } else {
      this.dropped += before?.length ?? 0;
      this.#waiting.set(key, [frame]);
    }
    if (typeof this.#buffering === "number" && this.#waiting.size > this.#buffering) {
      this.#waiting.delete(this.#waiting.keys().next().value);
      this.dropped += 1;
    }
    this.#readers.shift()?.();
  }

  /** No more will come; the loop gets what waits, and then the error. @param {any} [error] */
  end(error) {
    this.#end ??= { error };
    for (const wake of this.#readers.splice(0)) wake();
  }

  /** @returns {Promise<IteratorResult<Frame, undefined>>} */
  async next() {
    for (;;) {
      for (const [key, frames] of this.#waiting) {
        const value = /** @type {Frame} */ (frames.shift());
        if (!frames.length) this.#waiting.delete(key);
        return { value, done: false };
      }
      if (this.#end) {
        const { error } = this.#end;
        this.#end = {};
        if (error) throw error;
        return { value: undefined, done: true };
      }
      await new Promise((resolve) => this.#readers.push(resolve));
    }
  }

  /** @returns {Promise<IteratorResult<Frame, undefined>>} */
  async return() {
    this.#waiting.clear();
    this.#onEnd();
    this.end();
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async [Symbol.asyncDispose]() {
    await this.return();
  }
}
