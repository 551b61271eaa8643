/**
 * The figures at the top: rates, and the time from the server to the screen.
 *
 * @module meters
 */

import { byId, setText, short } from "./dom.js";
import { Quantiles, Rate } from "./topics/meter.js";

/** A window that is covered gets no animation frames; its messages must not pile up. */
const UNPAINTED_MAX = 10_000;

export class Meters {
  #client;
  #latencies = new Quantiles();
  #messages = new Rate();
  #bytes = new Rate();
  #unpainted = []; // live frames since the last painting
  #painting = [];
  #painted = new MessageChannel();

  /** @param {ReturnType<typeof import("../fanline.js").connect>} client */
  constructor(client) {
    this.#client = client;
    this.#painted.port1.onmessage = () => {
      const now = performance.now();
      for (const frame of this.#painting) {
        const latency = client.latency(frame) - client.delayOf(frame.topic);
        this.#latencies.add(now, Math.max(latency, 0));
      }
      this.#painting = [];
    };
  }

  /** A live frame has come. @param {import("../fanline.js").Frame} frame */
  take(frame) {
    if (!document.hidden && this.#unpainted.length < UNPAINTED_MAX) this.#unpainted.push(frame);
  }

  /** To be called in an animation frame: a message posted there arrives after it was painted, when a person has seen it. */
  painted() {
    if (!this.#unpainted.length) return;
    [this.#painting, this.#unpainted] = [this.#unpainted, []];
    this.#painted.port2.postMessage(null);
  }

  /** @param {number} topics */
  show(topics) {
    const now = performance.now();
    const messages = this.#messages.mark(now, this.#client.messages);
    const kilobytes = this.#bytes.mark(now, this.#client.bytes) / 1000;
    const quantiles = this.#client.state === "open" ? this.#latencies.read(now, [0.5, 0.99]) : null;
    setText(byId("meter-topics"), String(topics));
    setText(byId("meter-messages"), short(messages));
    setText(byId("meter-bytes"), short(kilobytes));
    setText(byId("meter-median"), quantiles ? String(Math.round(quantiles[0])) : "–");
    setText(byId("meter-p99"), quantiles ? String(Math.round(quantiles[1])) : "–");
  }
}
