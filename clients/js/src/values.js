/**
 * The newest frame of each topic, and what a late subscription gets of it. Part of `fanline.js`.
 *
 * @module values
 */

/** @typedef {import("./fanline.js").Frame} Frame */
/**
 * `told` is what a late subscription gets: the newest frame, or the snapshot and the deltas since, each with its text.
 * @typedef {{frame: Frame, connection: number, told: [Frame, string][]}} Value `connection` is the last that has brought it
 */

/** Deltas of one topic that are kept for late subscriptions; beyond, those wait for the next snapshot. */
const CHANGES_MAX = 1000;

export class Values {
  /** @type {Map<string, Value>} */
  of = new Map();

  /** @param {Frame} frame @param {string} text @param {number} connection */
  keep(frame, text, connection) {
    this.of.set(frame.topic, { frame, connection, told: told(this.of.get(frame.topic)?.told, frame, text) });
  }

  /** Frames of the topic were left out before `offset`. @param {string} topic @param {number} offset */
  breakOff(topic, offset) {
    const value = this.of.get(topic);
    if (value && value.frame.offset < offset) value.told = [];
  }

  /** @param {(topic: string) => boolean} kept */
  retain(kept) {
    for (const topic of this.of.keys()) if (!kept(topic)) this.of.delete(topic);
  }
}

/** @param {[Frame, string][] | undefined} before @param {Frame} frame @param {string} text @returns {[Frame, string][]} */
function told(before, frame, text) {
  if (frame.kind !== "delta") return [[frame, text]];
  if (before?.[0]?.[0].kind !== "snapshot" || before.length > CHANGES_MAX) return [];
  before.push([frame, text]);
  return before;
}
