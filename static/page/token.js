/**
 * The token of the person at the page: asked for when the server wants one, kept for this tab, never in an address.
 *
 * @module token
 */

import { byId } from "./dom.js";
import { ofTab } from "./storage.js";

const WANTED = "This server shows its values to those who show a token.";
const REFUSED = "The server does not accept the token, or it has expired.";

export class TokenEntry {
  #key;

  /** @param {string} server whose token it is @param {() => void} onChange there is another token, or none any more */
  constructor(server, onChange) {
    this.#key = `fanline.token ${server}`;
    byId("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const token = byId("token").value.trim();
      if (!token) return;
      ofTab.set(this.#key, token);
      onChange();
    });
    byId("token-forget").addEventListener("click", () => {
      ofTab.set(this.#key, null);
      onChange();
    });
    byId("token-open").addEventListener("click", () => this.#open("Some servers show more to those who show a token."));
  }

  /** The token kept for this tab, or an empty text. */
  get kept() {
    return ofTab.get(this.#key) ?? "";
  }

  /** The server wants one, or another one. */
  ask() {
    this.#open(this.kept ? REFUSED : WANTED);
  }

  #open(why) {
    byId("token-why").textContent = why;
    byId("token-forget").hidden = !this.kept;
    if (!byId("token-dialog").open) byId("token-dialog").showModal();
  }
}
