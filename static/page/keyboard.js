/**
 * Keys for those who do not want to reach for the mouse. Single letters can be switched off (WCAG 2.1.4).
 *
 * @module keyboard
 */

import { byId } from "./dom.js";
import { ofBrowser } from "./storage.js";

const OFF = "fanline.single_keys_off";

/** What a key does in another way where it is pressed: text is typed, a list or a long text is scrolled. */
const OWN_KEYS = "input, textarea, select, pre";

/**
 * @param {Record<string, () => void>} letters by key
 * @param {Record<string, () => void>} keys by key: those that are no single characters
 */
export function listen(letters, keys) {
  const choice = byId("single-keys");
  choice.checked = ofBrowser.get(OFF) === null;
  choice.addEventListener("change", () => ofBrowser.set(OFF, choice.checked ? null : "yes"));
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (document.querySelector("dialog[open]") || event.target.closest(OWN_KEYS)) return;
    const action = keys[event.key] ?? (choice.checked ? letters[event.key] : undefined);
    if (!action) return;
    event.preventDefault();
    action();
  });
}
