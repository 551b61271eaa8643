/**
 * A deadline for what others promise. Part of `fanline.js`.
 *
 * @module within
 */

/**
 * What `promise` gives, or a failure after `ms`.
 * @template T
 * @param {T | Promise<T>} promise @param {number} ms @param {string} what
 * @returns {Promise<T>}
 */
export function within(promise, ms, what) {
  /** @type {any} */
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`expected ${what} within ${ms} ms, found none`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
