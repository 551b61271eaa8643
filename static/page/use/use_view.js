/**
 * The view with ready code for the current filter.
 *
 * @module use_view
 */

import { byId, setText } from "../dom.js";
import { LANGUAGES } from "../route.js";
import { snippets } from "./snippets.js";

const COPIED_MS = 2_000;

export class UseView {
  #timer;

  /** @param {{onLanguage: (language: string) => void}} hooks */
  constructor({ onLanguage }) {
    byId("languages").addEventListener("change", (event) => onLanguage(event.target.value));
    byId("copy").addEventListener("click", () => this.#copy());
  }

  /** @param {{page: URL, socket: URL, patterns: string[], needsToken: boolean}} what @param {string} language */
  show(what, language) {
    const { title, note, code } = snippets(what)[language];
    for (const each of LANGUAGES) byId(`language-${each}`).checked = each === language;
    setText(byId("snippet-title"), `${title}: ${what.patterns.join(", ")}`);
    setText(byId("snippet-note"), what.needsToken ? `${note} Put your token in place of TOKEN.` : note);
    setText(byId("snippet"), code);
  }

  async #copy() {
    const copied = await write(byId("snippet"));
    setText(byId("copied"), copied ? "Copied." : "Selected: copy it with the keyboard.");
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => setText(byId("copied"), ""), COPIED_MS);
  }
}

/** Browsers have a clipboard only for pages over HTTPS and of this machine. */
async function write(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(code);
    return document.execCommand("copy");
  }
}
