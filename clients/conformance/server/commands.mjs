/**
 * What a client commands on a WebSocket, judged as strictly as the real server does.
 *
 * @module server/commands
 */

import { isPattern } from "./pattern.mjs";

const MEMBERS = {
  subscribe: ["id", "topics", "since", "policy", "every_ms", "brief"],
  unsubscribe: ["id", "topics", "brief"],
  ping: ["id"],
  auth: ["id", "token"],
  send: ["id", "topic", "data"],
  request: ["id", "data", "timeout_ms"],
};

/**
 * Does one command. What the client should not have sent goes to `server.fault`.
 * @param {import("./session.mjs").Session} session @param {string} text
 */
export function perform(session, text) {
  const { server } = session;
  let command;
  try {
    command = JSON.parse(text);
  } catch {
    return server.fault(`a command is one JSON object, found \`${text.slice(0, 80)}\``);
  }
  server.command(session, command);
  const members = MEMBERS[command.op];
  if (!members) return server.fault(`a client sends \`op\`s that the protocol has, found \`${command.op}\``);
  const foreign = Object.keys(command).find((name) => name !== "op" && !members.includes(name));
  if (foreign) server.fault(`\`${command.op}\` has no member \`${foreign}\``);
  if (server.silent.has(command.op)) return;
  const { id } = command;
  if (!session.isAdmitted && !["auth", "ping"].includes(command.op)) {
    return session.say({ op: "error", id, code: "unauthenticated", message: "expected `auth` first" });
  }
  const error = performAdmitted(session, command);
  if (error) session.say({ op: "error", id, ...error });
}

function performAdmitted(session, command) {
  const { server } = session;
  const { id, op, topics = [] } = command;
  const told = server.settings.errors?.[op];
  if (told && (!told.topic || topics.includes(told.topic))) return { code: told.code, message: told.message ?? "refused" };
  switch (op) {
    case "subscribe": {
      if (!topics.length && command.every_ms === undefined && command.policy === undefined) server.fault("`subscribe` has topics, found none");
      const wrong = topics.find((pattern) => !isPattern(pattern));
      if (wrong !== undefined) return { code: "bad_pattern", message: `\`${wrong}\` is no pattern` };
      if (command.since !== undefined && session.hasSubscribed) {
        server.fault("`since` is only in the first subscription of a connection");
        return { code: "bad_request", message: "`since` comes too late" };
      }
      server.ask(session.attempt, { topics, since: command.since, id });
      session.subscribe(command);
      if (command.every_ms !== undefined) session.every_ms = command.every_ms;
      return undefined;
    }
    case "unsubscribe": {
      for (const pattern of topics) {
        if (session.patterns.delete(pattern)) continue;
        server.fault(`patterns to unsubscribe are in force, found \`${pattern}\``);
        return { code: "not_subscribed", message: `\`${pattern}\` is not in force` };
      }
      const inForce = command.brief ? { count: session.patterns.size } : { topics: [...session.patterns] };
      session.say({ op: "unsubscribed", id, ...inForce, offset: server.feed.offset });
      return undefined;
    }
    case "ping":
      session.say({ op: "pong", id, ts: server.feed.now() });
      return undefined;
    case "auth":
      return authenticate(session, command);
    case "send":
      session.say({ op: "sent", id });
      return undefined;
    default:
      session.say({ op: "response", id, data: { echo: command.data } });
      return undefined;
  }
}

function authenticate(session, { id, token }) {
  const { credentials } = session.server;
  if (!credentials.isOn) return { code: "bad_request", message: "this server does not know its clients" };
  const rights = credentials.judge(token, "auth");
  if (rights) {
    session.isAdmitted = session.hasToken = true;
    session.say({ op: "authenticated", id, ...rights });
    const { attempt } = session;
    if (attempt.topics.length && !session.hasSubscribed) session.subscribe({ topics: attempt.topics, since: attempt.since });
    return undefined;
  }
  session.say({ op: "error", id, code: "unauthenticated", message: "the token is not valid" });
  if (!session.hasToken) session.close(4401, "no valid token: get a fresh one and reconnect");
  return undefined;
}
