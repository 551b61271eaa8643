/**
 * The adapter of the conformance suite (clients/conformance/README.md), for browsers and for Node.
 *
 * @module conformance/browser
 */

import { AskError, connect, Unauthorized } from "../src/fanline.js";
import { connect as connectShared } from "../src/shared.js";

const NOTICES = ["stale", "live", "gap", "refused", "skipped", "view", "goodbye", "error"];
/** Events of the platform, by the op that stands for them: where they happen, and what is true from then on. */
const PLATFORM = {
  offline: ["window", "offline", { onLine: false }],
  online: ["window", "online", { onLine: true }],
  freeze: ["document", "freeze", {}],
  resume: ["document", "resume", {}],
  hide: ["document", "visibilitychange", { visibilityState: "hidden" }],
  show: ["document", "visibilitychange", { visibilityState: "visible" }],
  wake: ["window", "pageshow", {}],
};

/** What the client looks at: the browser's own, or stand-ins. */
function platform() {
  if (globalThis.document) return { window: globalThis, document: globalThis.document, navigator: globalThis.navigator };
  const [window, document, navigator] = [new EventTarget(), new EventTarget(), { onLine: true }];
  globalThis.addEventListener = window.addEventListener.bind(window);
  globalThis.removeEventListener = window.removeEventListener.bind(window);
  Object.assign(globalThis, { document });
  Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true });
  document.visibilityState = "visible";
  return { window, document, navigator };
}

function json(value) {
  return typeof value === "bigint" ? { $int: String(value) } : value;
}

function exact(value) {
  return JSON.parse(JSON.stringify(value, (_, it) => json(it)));
}

/** Speaks the adapter protocol: `emit(event)` says an event, the returned function takes a command. */
export function adapter(emit) {
  const { window, document, navigator } = platform();
  const clients = new Map(); // name -> { client, subscriptions }
  const questions = new Map();
  let lastQuestion = 0;

  emit({
    event: "hello",
    protocol: 1,
    name: "fanline for JavaScript",
    version: "0.1.0",
    runtime: globalThis.process ? `node ${process.versions.node}` : navigator.userAgent,
    transports: ["websocket", "sse", "longpoll", "poll"],
    features: [
      ...["tokens", "pace", "ask", "wake", "network", "freeze", "hidden", "numbers", "url", "calm", "ladder"],
      ...(globalThis.BroadcastChannel && globalThis.navigator.locks ? ["shared"] : []),
    ],
  });

  function asks(name, about) {
    return ({ reason } = {}) =>
      new Promise((resolve, reject) => {
        const question = `q${++lastQuestion}`;
        questions.set(question, { resolve, reject });
        emit({ event: "question", client: name, question, about, reason });
      });
  }

  function translated(name, { token, shared, ...options }) {
    if (token !== undefined) options.token = typeof token === "string" ? token : asks(name, "token");
    return shared === undefined ? options : { ...options, name: shared };
  }

  const commands = {
    connect({ client: name, url, options = {} }) {
      const start = options.shared === undefined ? connect : connectShared;
      const client = start(typeof url === "string" ? url : asks(name, "url"), translated(name, options));
      const subscriptions = new Map();
      clients.set(name, { client, subscriptions });
      const said = (/** @type {any} */ event) => emit({ client: name, ...event });
      if (client.state !== "idle") said({ event: "state", state: client.state, transport: client.transport });
      client.on("state", (event) => said({ event: "state", ...event, retry_ms: event.retry_ms || undefined }));
      client.on("subscription", ({ subscription, state, reason }) => {
        const found = [...subscriptions].find(([, it]) => it === subscription);
        if (found) said({ event: "subscription", subscription: found[0], state, reason });
      });
      for (const op of NOTICES) client.on(op, (message) => said({ ...message, event: "notice", op }));
      client.closed.then((closed) => said({ event: "closed", ...closed }));
    },
    subscribe({ client: name, subscription, topics }) {
      const { client, subscriptions } = clients.get(name);
      const it = client.subscribe(topics, (frame, live) => {
        emit({ event: "frame", client: name, subscription, ...exact(frame), live });
      });
      subscriptions.set(subscription, it);
      emit({ event: "subscription", client: name, subscription, state: it.state });
    },
    unsubscribe({ client, subscription }) {
      clients.get(client).subscriptions.get(subscription).unsubscribe();
    },
    set_pace: ({ client, every_ms }) => clients.get(client).client.setPace(every_ms),
    set_token: ({ client, token }) => clients.get(client).client.setToken(token),
    answer({ question, value, error, unauthorized }) {
      const { resolve, reject } = questions.get(question);
      questions.delete(question);
      if (unauthorized) reject(new Unauthorized("logged out"));
      else if (error !== undefined) reject(new Error(error));
      else resolve(value);
    },
    send: ({ client, ask, topic, data }) => answered(client, ask, clients.get(client).client.send(topic, data)),
    request: ({ client, ask, data, timeout_ms }) => answered(client, ask, clients.get(client).client.request(data, timeout_ms)),
    look({ client: name, look, topic }) {
      const { client } = clients.get(name);
      const frame = exact(client.latest(topic) ?? null);
      const [current, stale, delay_ms] = [client.isCurrent(topic), client.isStale(topic), client.delayOf(topic)];
      emit({ event: "looked", client: name, look, topic, frame, current, stale, delay_ms });
    },
    reconnect: ({ client }) => clients.get(client).client.reconnect(),
    close: ({ client }) => clients.get(client).client.close(),
    sync: ({ client, sync }) => setTimeout(() => emit({ event: "synced", client, sync })),
  };

  function answered(client, ask, promise) {
    promise.then(
      (data) => emit({ event: "answered", client, ask, data: exact(data ?? null) }),
      (error) => emit({ event: "failed", client, ask, code: error instanceof AskError ? error.code : "", message: error.message }),
    );
  }

  return (command) => {
    try {
      const happening = PLATFORM[command.op];
      if (!happening) return commands[command.op](command);
      const [where, name, truths] = happening;
      for (const [key, value] of Object.entries(truths)) {
        Object.defineProperty(key === "onLine" ? navigator : document, key, { value, configurable: true, writable: true });
      }
      (where === "window" ? window : document).dispatchEvent(new Event(name));
    } catch (error) {
      emit({ ...command, event: "threw", message: `${error?.message ?? error}` });
    }
    return undefined;
  };
}
