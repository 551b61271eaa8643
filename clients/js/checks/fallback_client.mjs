/** A client of all topics that tells what it sees, in a page or in a program of Node that is told what to follow. */

import { connect } from "../src/fanline.js";

const NOTICES = ["gap", "stale", "live", "refused", "skipped"];

/** @param {string} url @param {object} options of the client @param {(event: object) => void} tell */
export function follow(url, options, tell) {
  const say = (event) => tell({ at: performance.now(), ...event });
  const client = connect(`${url}/v1/ws`, options);
  const { state, transport } = client;
  say({ state, transport });
  client.on("state", ({ state, transport, reason }) => say({ state, transport, reason }));
  for (const op of NOTICES) client.on(op, ({ offset, from, to }) => say({ op, offset, from, to }));
  client.subscribe(">", ({ offset }, live) => say({ op: "frame", offset, live, transport: client.transport }));
}

globalThis.process?.on("message", ({ name, url, options }) => follow(url, options, (event) => process.send({ name, event })));
