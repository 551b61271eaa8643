/**
 * The worker of `shared.js`: one hub for all its tabs.
 *
 * @module shared_worker
 */

import { Hub } from "./hub.js";
import { whenGone } from "./shared.js";

/** @type {Hub | undefined} */
let hub;

/** @type {any} */
const scope = globalThis;

scope.onconnect = (/** @type {MessageEvent} */ { ports: [port] }) => {
  /** @type {import("./hub.js").Session | undefined} */
  let session;
  const leave = () => {
    if (session) hub?.detach(session);
    session = undefined;
  };
  port.onmessage = ({ data: { hello, options, lock, command, answer, bye } }) => {
    if (hello) {
      hub ??= new Hub(options);
      session = hub.attach({ post: (message) => port.postMessage(message) }, hello);
      if (lock) whenGone(lock, leave);
    } else if (bye) leave();
    else if (answer) hub?.answer(answer);
    else if (command) session?.take(command);
  };
};
