/**
 * Who is slow: the sessions that are behind, where this page may see the operator's calls.
 *
 * Each call is a line of the audit log, so it is made when a person asks for it.
 *
 * @module slow_clients
 */

import { byId, element, keepCount, setText } from "../dom.js";
import { ofTab } from "../storage.js";

const SESSIONS_MAX = 1000;
const SHOWN_MAX = 50;
const KEY = "fanline.admin_key";
/** What a header can carry; any other text was never a key. */
const IS_KEY = /^[!-~]+$/;

export class SlowClients {
  constructor() {
    byId("slow-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const key = byId("admin-key").value.trim();
      byId("admin-key").value = "";
      if (key) ofTab.set(KEY, key);
      this.#read();
    });
  }

  open() {
    setText(byId("slow-state"), "");
  }

  async #read() {
    const key = ofTab.get(KEY) ?? "";
    const headers = IS_KEY.test(key) ? { Authorization: `Bearer ${key}` } : {};
    const answer = await fetch(`admin/sessions?limit=${SESSIONS_MAX}`, { headers }).catch(() => null);
    if (answer?.status === 401) ofTab.set(KEY, null);
    byId("admin-key-field").hidden = answer?.status !== 401;
    byId("slow-table").hidden = !answer?.ok;
    if (!answer?.ok) return setText(byId("slow-state"), refusal(answer));
    const { sessions, next } = await answer.json();
    this.#paint(sessions, next !== undefined && next !== null);
  }

  #paint(sessions, isCut) {
    const slow = sessions.filter(({ lag, unsent_bytes, state }) => lag > 0 || unsent_bytes > 0 || state !== "in_step");
    slow.sort((a, b) => b.lag - a.lag || b.unsent_bytes - a.unsent_bytes);
    const of = `${isCut ? `the first ${sessions.length}` : sessions.length} sessions`;
    setText(byId("slow-state"), slow.length ? `${slow.length} of ${of} are behind.` : `None of ${of} is behind.`);
    const shown = slow.slice(0, SHOWN_MAX);
    const cell = (i) => element("td", i >= 4 ? { class: "num" } : {});
    const rows = keepCount(byId("slow-rows"), shown.length, () => element("tr", {}, ...Array.from({ length: 6 }, (_, i) => cell(i))));
    byId("slow-table").hidden = shown.length === 0;
    shown.forEach(({ number, sub, address, state, lag, unsent_bytes }, i) => {
      const texts = [number, sub ?? "–", address ?? "–", state, lag, unsent_bytes];
      texts.forEach((text, column) => setText(rows[i].cells[column], String(text)));
    });
  }
}

function refusal(answer) {
  if (!answer) return "The server does not answer.";
  if (answer.status === 401) return "Enter the key of admin.key_file.";
  if (answer.status === 404 || answer.status === 403) {
    return "Sessions are shown only at the operator's address: set admin.listen and open this page there, or run `fanline admin sessions`.";
  }
  return `The server answers ${answer.status}.`;
}
