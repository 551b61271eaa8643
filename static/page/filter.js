/**
 * The box in which a person says which topics to show: patterns, or a part of a name.
 *
 * @module filter
 */

import { checkPattern } from "../fanline.js";
import { byId, element } from "./dom.js";
import { find, suggest } from "./topics/suggest.js";

/** Typing pauses; a subscription per key stroke would be noise to the server. */
const TYPING_MS = 350;

export class Filter {
  #seen;
  #onPatterns;
  #hint = byId("filter-hint").cloneNode(true);
  #timer;
  #patterns = [];

  /** @param {Set<string>} seen topics that are known to exist @param {(patterns: string[]) => void} onPatterns */
  constructor(seen, onPatterns) {
    [this.#seen, this.#onPatterns] = [seen, onPatterns];
    byId("filter").addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#apply(), TYPING_MS);
    });
    byId("tools").addEventListener("submit", (event) => {
      event.preventDefault();
      clearTimeout(this.#timer);
      this.#apply();
    });
    byId("filter").addEventListener("keydown", (event) => {
      if (event.key === "Escape") event.target.blur();
    });
  }

  /** The address says what is shown. What a person has just typed and means the same stays. @param {string[]} patterns @returns {string} why they cannot be subscribed to, or an empty text */
  show(patterns) {
    if (patterns.join() !== this.#patterns.join()) {
      this.#patterns = patterns;
      byId("filter").value = patterns.join(", ");
    }
    const wrong = patterns.map(checkPattern).find(Boolean) ?? "";
    if (wrong) this.#say(`Not a pattern: ${wrong}.`, true);
    return wrong;
  }

  focus() {
    byId("filter").focus();
    byId("filter").select();
  }

  /** Patterns that would show something, where those of the person show nothing. */
  suggest() {
    const buttons = suggest(this.#patterns, this.#seen).map((pattern) => {
      const button = element("button", { type: "button" }, pattern);
      button.addEventListener("click", () => {
        byId("filter").value = pattern;
        this.#apply();
      });
      return button;
    });
    byId("suggestions").replaceChildren(...(buttons.length ? ["Try ", ...buttons] : []));
  }

  /** Says what is wrong with the text in the box, or what it means. Nothing in it is everything; a part of a name is a search. */
  #apply() {
    const words = [...new Set(byId("filter").value.split(/[\s,]+/).filter(Boolean))];
    const wrong = words.map(checkPattern).find(Boolean);
    if (wrong) return this.#say(`Not a pattern: ${wrong}.`, true);
    const patterns = words.length ? find(words, this.#seen) : [">"];
    const isSearch = words.length > 0 && patterns.join() !== words.join();
    this.#say(isSearch ? `Topics that contain ${words.join(", ")}: ${patterns.join(", ")}` : "", false);
    this.#patterns = patterns;
    this.#onPatterns(patterns);
  }

  #say(text, isWrong) {
    byId("filter").setAttribute("aria-invalid", String(isWrong));
    byId("filter-hint").dataset.wrong = isWrong ? "yes" : "no";
    if (text) byId("filter-hint").textContent = text;
    else byId("filter-hint").replaceChildren(...this.#hint.cloneNode(true).childNodes);
  }
}
