/**
 * Who wants to be told what. Part of `fanline.js`.
 *
 * @module emitter
 */

export class Emitter {
  /** @type {Map<string, Set<(event: any) => void>>} */
  #handlers = new Map();

  /** Registers for an event and returns the function that ends it. @param {string} name @param {(event: any) => void} fn */
  on(name, fn) {
    const fns = this.#handlers.get(name) ?? new Set();
    this.#handlers.set(name, fns.add(fn));
    return () => void fns.delete(fn);
  }

  /** @param {string} name @param {any} event */
  emit(name, event) {
    for (const fn of this.#handlers.get(name) ?? []) guard(fn, event);
  }
}

/** A handler that throws is its author's to see, and must not stop the others. @param {Function} fn @param {any[]} args */
export function guard(fn, ...args) {
  try {
    fn(...args);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
