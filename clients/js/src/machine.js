/**
 * The states of a client, and what leads from one to another. Part of `fanline.js`.
 *
 * @module machine
 */

/**
 * @typedef {"idle"|"connecting"|"open"|"waiting"|"offline"|"closed"} State
 * @typedef {"dial"|"welcome"|"switch"|"lose"|"cut"|"end"} Transition
 */

/**
 * By state: the transitions that it has, and where they lead. Any other leaves the state as it is.
 * @type {Record<State, Partial<Record<Transition, State>>>}
 */
export const TRANSITIONS = {
  idle: { dial: "connecting", end: "closed" },
  connecting: { welcome: "open", lose: "waiting", cut: "offline", end: "closed" },
  open: { switch: "connecting", lose: "waiting", cut: "offline", end: "closed" },
  waiting: { dial: "connecting", cut: "offline", end: "closed" },
  offline: { dial: "connecting", end: "closed" },
  closed: {},
};
