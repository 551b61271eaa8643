/**
 * Says in words and colours how far the values can be trusted: connection, feed, next attempt.
 *
 * Only a change of state is announced to screen readers; the countdown is for the eye.
 *
 * @module status
 */

import { byId } from "./dom.js";
import { delayText } from "./topics/row_view.js";

const time = (ms) => new Date(ms).toLocaleTimeString();

const CAUSES = { upstream_silent: "The feed is silent", delay_warming: "The delay is not over", cluster: "The server has no connection to its log" };

export class Status {
  #client;
  #stale = new Map(); // patterns -> newest `stale` about them
  #messagesBefore = 0; // of the client, when this connection was opened
  #lostAt = 0;
  #retryAt = 0;
  #reason = "";
  #fault = "";
  #shown = "";
  #explanation = "";

  /** @param {ReturnType<typeof import("../fanline.js").connect>} client */
  constructor(client) {
    this.#client = client;
    client.on("state", (event) => this.#onState(event));
    client.on("stale", (event) => {
      if (event.offset !== undefined || event.reason === "nothing_yet") return; // one topic's; its row shows it
      this.#stale.set(event.topics.join(), event);
      this.#show();
    });
    client.on("live", (event) => {
      if (event.offset !== undefined) return;
      if (event.topics.includes(">")) this.#stale.clear();
      else this.#stale.delete(event.topics.join());
      this.#show();
    });
    client.on("error", ({ message }) => {
      this.#fault = message;
      this.#show();
    });
    client.on("late", () => this.#show());
    client.on("view", () => this.#showDelay());
    byId("retry").addEventListener("click", () => client.reconnect());
    this.#show();
  }

  /** Called a few times a second. */
  tick() {
    const waiting = this.#client.state === "waiting";
    const seconds = Math.max(Math.ceil((this.#retryAt - Date.now()) / 1000), 0);
    const set = (id, text) => byId(id).textContent !== text && (byId(id).textContent = text);
    const late = this.#client.state === "open" && this.#client.isLate;
    set("countdown", waiting ? `Next attempt in ${seconds} s.` : late ? `Late by ${(this.#client.age / 1000).toFixed(1)} s.` : "");
    set("reason", waiting ? `Cause: ${this.#reason}.` : "");
    byId("retry").hidden = !waiting || seconds < 2;
    this.#show();
  }

  #onState({ state, reason, retry_ms }) {
    if (state === "closed") this.#reason = reason;
    if (state === "offline") this.#lostAt ||= Date.now();
    if (state === "waiting") {
      this.#lostAt ||= Date.now();
      this.#retryAt = Date.now() + retry_ms;
      this.#reason = reason;
    }
    if (state === "open") [this.#lostAt, this.#fault, this.#messagesBefore] = [0, "", this.#client.messages];
    if (state !== "open") this.#stale.clear();
    byId("simulated").hidden = !this.#client.simulated;
    this.#showDelay();
    this.#show();
  }

  #showDelay() {
    const { delay } = this.#client;
    byId("delayed").hidden = !delay;
    byId("delay").textContent = delayText(delay);
  }

  #show() {
    const [connection, feed, text] = this.#describe();
    if (text === this.#shown) return;
    this.#shown = text;
    document.body.dataset.connection = connection;
    document.body.dataset.feed = feed;
    byId("connection").textContent = this.#connection(connection);
    byId("feed").textContent = feed;
    byId("status").textContent = text;
  }

  /** Another way than the usual one is worth knowing: it is slower, and a sign of a proxy in between. */
  #connection(state) {
    const { transport } = this.#client;
    if (state === "open" && transport && transport !== "websocket") return `open (${transport})`;
    return state === "waiting" ? "lost" : state;
  }

  /** The client ends, and this is why. @param {string} text */
  explain(text) {
    this.#explanation = text;
  }

  #describe() {
    const { state } = this.#client;
    if (this.#explanation) return ["closed", "unknown", this.#explanation];
    if (state === "closed") return ["closed", "unknown", `Not connected: ${this.#reason}. The values below are not current.`];
    if (state !== "open") {
      if (!this.#lostAt) return [state, "unknown", "Connecting to the server."];
      const cause = state === "offline" ? "This device is offline" : "Not connected";
      return [state, "unknown", `${cause} since ${time(this.#lostAt)}. The values below are not current.`];
    }
    const stale = [...this.#stale.values()].at(-1);
    if (stale) {
      const whose = stale.topics.includes(">") ? "The values below" : `Values of ${stale.topics.join(", ")}`;
      const what = CAUSES[stale.reason] ?? "The feed is down";
      return [state, "stale", `${what} since ${time(stale.since_ms)}: ${stale.message}. ${whose} are not current.`];
    }
    if (this.#client.isLate) {
      const unheard = navigator.onLine === false ? "This device is offline" : "The server is not heard";
      const cause = this.#client.isSilent ? unheard : "Catching up: this page or the line is too slow";
      return [state, "late", `${cause}. The values below are not current.`];
    }
    if (this.#fault) return [state, "live", `The server refused: ${this.#fault}`];
    const heard = this.#client.messages > this.#messagesBefore;
    if (!heard && !(this.#client.caughtUp && this.#client.topics.length)) {
      return [state, "unknown", "Connected. Waiting for values."];
    }
    const { delay } = this.#client;
    if (delay) return [state, "delayed", `Connected. Values are delayed by up to ${delayText(delay)}.`];
    return [state, "live", "Connected. Values are current."];
  }
}
