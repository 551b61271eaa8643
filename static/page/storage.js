/**
 * Small texts kept for this tab, or for this browser. Where the browser keeps nothing, they last as long as the page.
 *
 * @module storage
 */

class Storage {
  #read;
  #fallback = new Map();

  /** @param {() => globalThis.Storage} read */
  constructor(read) {
    this.#read = read;
  }

  /** @param {string} key @returns {string|null} */
  get(key) {
    if (this.#fallback.has(key)) return this.#fallback.get(key);
    try {
      return this.#read().getItem(key);
    } catch {
      return null;
    }
  }

  /** @param {string} key @param {string|null} text null forgets it */
  set(key, text) {
    try {
      if (text === null) this.#read().removeItem(key);
      else this.#read().setItem(key, text);
      this.#fallback.delete(key);
    } catch {
      this.#fallback.set(key, text);
    }
  }
}

export const ofTab = new Storage(() => globalThis.sessionStorage);
export const ofBrowser = new Storage(() => globalThis.localStorage);
