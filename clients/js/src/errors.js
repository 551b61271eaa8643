/**
 * Errors that the client's user meets. Part of `fanline.js`.
 *
 * @module errors
 */

/** Thrown by a token function that will give no token any more: the user is logged out. It ends the client. */
export class Unauthorized extends Error {
  name = "Unauthorized";
}

/** Why a `send` or a `request` was not done: `code` is the server's, `not_connected` or `connection_lost`. */
export class AskError extends Error {
  name = "AskError";

  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}
