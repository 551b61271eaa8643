/**
 * The newest frame of each topic, and what a late subscription gets of it. Part of `fanline.js`.
 *
 * @module values
 */

import { covers } from "./pattern.js";

/** Deltas of one topic that are kept for late subscriptions; beyond, those wait for the next snapshot. */
const CHANGES_MAX = 1000;

/** @typedef {import("./options.js").Frame} Frame */
/**
 * `connection` has sent it; `told` is what a late subscription gets: the newest frame, or the snapshot and the deltas since.
 * @typedef {{frame: Frame, connection: number, told: [Frame, string][]}} Value
 */

/** By topic, of those that a subscription covers. @extends {Map<string, Value>} */
export class Values extends Map {
  /** Returns whether the frame is new. @param {Frame} frame @param {string} text @param {number} connection */
  take(frame, text, connection) {
    const known = this.get(frame.topic);
    if (known && known.frame.offset >= frame.offset) {
      known.connection = connection; // sent again after a reconnect: nothing new, but now confirmed
      return false;
    }
    const isDelta = frame.kind === "delta";
    const told = (isDelta && known?.told) || [];
    if (isDelta && (told[0]?.[0].kind !== "snapshot" || told.length > CHANGES_MAX)) told.length = 0;
    else told.push([frame, text]);
    this.set(frame.topic, { frame, connection, told });
    return true;
  }

  /** A snapshot and its deltas were not sent. @param {string} topic @param {number} offset */
  overflow(topic, offset) {
    const known = this.get(topic);
    if (known && known.frame.offset < offset) known.told = [];
  }

  /** What a subscription to the patterns gets at once. @param {readonly string[]} patterns */
  of(patterns) {
    return [...this.values()].flatMap(({ frame, told }) => (covers(patterns, frame.topic) ? told : []));
  }

  /** Nothing is known any more of topics that no pattern covers. @param {string[]} patterns */
  retain(patterns) {
    for (const topic of this.keys()) if (!covers(patterns, topic)) this.delete(topic);
  }
}
