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

/**
 * The frames of a subscription, as the loop asks for them.
 * @param {import("./fanline.js").Fanline<any>} client @param {string | readonly string[]} topics
 * @param {{buffer?: Buffering, signal?: AbortSignal}} [options]
 */
export async function* framesOf(client, topics, { buffer = "latest", signal } = {}) {
  const frames = new Frames(buffer);
  /** @type {import("./subscription.js").Ending} */
  const ending = { signal, onEnd: (error) => frames.end(error) };
  const subscription = client.subscribe(topics, (frame) => frames.push(frame), ending);
  try {
    for (let frame; (frame = await frames.next()); ) yield frame;
  } finally {
    subscription.unsubscribe();
  }
}

export class Frames {
  #buffering;
  /** @type {Map<any, Frame[]>} by topic, or by number */
  #waiting = new Map();
  #next = 0;
  /** @type {(it?: any) => void} */
  #wake = () => {};
  /** @type {{error?: any} | undefined} */
  #end;

  /** @param {Buffering} buffering */
  constructor(buffering) {
    this.#buffering = buffering;
  }

  /** @param {Frame} frame */
  push(frame) {
    if (this.#end) return;
    const isLatest = this.#buffering === "latest";
    const key = isLatest ? frame.topic : this.#next++;
    const before = this.#waiting.get(key);
    if (before && frame.kind === "delta") {
      if (before.push(frame) > CHANGES_MAX) this.end(new Error(`the loop fell behind by ${CHANGES_MAX} changes of ${key}`));
    } else this.#waiting.set(key, [frame]);
    if (typeof this.#buffering === "number" && this.#waiting.size > this.#buffering) {
      this.#waiting.delete(this.#waiting.keys().next().value);
    }
    this.#wake();
  }

  /** No more will come; the loop gets what waits, and then the error. @param {any} [error] */
  end(error) {
    this.#end ??= { error };
    this.#wake();
  }

  /** The next one, or undefined at the end. @returns {Promise<Frame | undefined>} */
  async next() {
    for (;;) {
      for (const [key, frames] of this.#waiting) {
        const frame = frames.shift();
        if (!frames.length) this.#waiting.delete(key);
        return frame;
      }
      if (this.#end?.error) throw this.#end.error;
      if (this.#end) return undefined;
      await new Promise((resolve) => (this.#wake = resolve));
    }
  }
}
