/**
 * The two streams of the fake server: a WebSocket, and server-sent events.
 *
 * @module server/streams
 */

import { constants, createGzip } from "node:zlib";

import { perform } from "./commands.mjs";
import { cors, head, piece } from "./http.mjs";
import { Outlet } from "./outlet.mjs";
import { Session } from "./session.mjs";
import { BINARY, CLOSE, closing, frame, FrameReader, PING, PONG, TEXT, upgraded } from "./websocket.mjs";

/** How long a socket is left open after a close frame, for the client's own. */
const LINGER_MS = 500;

/** @typedef {import("./fake_server.mjs").Plan} Plan */

/** Takes an upgrade. @param {import("./fake_server.mjs").Visit} visit @param {Plan} plan */
export function openWebSocket({ server, socket, reader, request, attempt }, plan) {
  if (!request.headers["sec-websocket-key"]) return server.fault("an upgrade has Sec-WebSocket-Key, found none");
  const outlet = new Outlet(socket);
  let isClosing = false;
  const wire = {
    text: (text) => outlet.write(frame(TEXT, Buffer.from(text))),
    raw: (bytes) => outlet.write(bytes),
    half: (text) => outlet.write(frame(TEXT, Buffer.from(text)).subarray(0, Math.ceil(text.length / 2))),
    close: (code, reason) => {
      isClosing = true;
      outlet.write(closing(code, reason));
      setTimeout(() => outlet.end(), LINGER_MS).unref();
    },
  };
  const session = new Session(server, attempt, wire, outlet);
  const frames = new FrameReader({
    onFault: (sentence) => server.fault(sentence),
    onMessage: (opcode, payload) => {
      if (opcode === CLOSE) {
        attempt.closeCode = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
        if (!isClosing) outlet.write(frame(CLOSE, payload));
        outlet.end();
        session.over();
      } else if (opcode === PING) outlet.write(frame(PONG, payload));
      else if (opcode === TEXT && !session.isOver && !outlet.muted) perform(session, payload.toString());
      else if (opcode === BINARY) server.fault("commands are text, found a binary message");
    },
  });
  if (plan.drip) outlet.drip();
  outlet.write(upgraded(request.headers));
  reader.handOver((bytes) => frames.push(bytes));
  begin(session, request, plan);
  return session;
}

/** Begins a stream of events. @param {import("./fake_server.mjs").Visit} visit @param {Plan} plan */
export function openEvents({ server, socket, reader, request, attempt }, plan) {
  const outlet = new Outlet(socket);
  const gzip = server.settings.gzip && /gzip/.test(request.headers["accept-encoding"] ?? "") ? createGzip({ flush: constants.Z_SYNC_FLUSH }) : undefined;
  attempt.gzip = gzip !== undefined;
  gzip?.on("data", (bytes) => outlet.write(piece(bytes)));
  const raw = (text) => {
    if (outlet.muted) return;
    if (!gzip) return outlet.write(piece(text));
    gzip.write(text);
    gzip.flush(constants.Z_SYNC_FLUSH);
  };
  const wire = {
    text: (text, { op, cursor }) => raw(event(text, op, cursor)),
    raw,
    half: (text) => raw(event(text).slice(0, text.length / 2)),
    close: (code, reason) => {
      raw(`retry: 1000\n\n${event(JSON.stringify({ op: "close", code, reason }), "close")}`);
      if (gzip) gzip.flush(() => outlet.end());
      else outlet.write("0\r\n\r\n"), outlet.end();
    },
  };
  const session = new Session(server, attempt, wire, outlet);
  if (plan.drip) outlet.drip();
  outlet.write(
    head(200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache, no-transform",
      "x-accel-buffering": "no",
      "content-encoding": gzip && "gzip",
      "transfer-encoding": "chunked",
      connection: "close",
      "fanline-epoch": server.feed.epoch,
      "fanline-offset": server.feed.offset,
      ...cors(request),
      ...plan.headers,
    }),
  );
  reader.handOver(() => server.fault("nothing follows the request of a stream, found bytes"));
  if (plan.buffer_bytes) outlet.buffer(plan.buffer_bytes);
  if (plan.hold === "events") outlet.mute();
  wire.raw(`retry: ${server.settings.retry_ms ?? 2000}\n\n`);
  begin(session, request, plan);
  return session;
}

function event(text, op, cursor) {
  return `${op ? `event: ${op}\n` : ""}${cursor ? `id: ${cursor}\n` : ""}data: ${text}\n\n`;
}

/** Welcome and what the query asks for, or what the plan has instead. */
function begin(session, request, plan) {
  const { server, attempt } = session;
  const { credentials } = server;
  if (plan.close) return session.close(plan.close.code, plan.close.reason);
  if (plan.hold === "welcome") {
    attempt.withoutHeartbeat = true;
    return undefined;
  }
  attempt.withoutHeartbeat = plan.heartbeats === false;
  session.greet(plan.welcome);
  attempt.isWelcomed = true;
  if (plan.mute_after === "welcome") return session.outlet.mute();
  if (plan.cut_after_ms) setTimeout(() => session.outlet.reset(), plan.cut_after_ms).unref();
  if (plan.fin_after_ms) setTimeout(() => session.outlet.end(), plan.fin_after_ms).unref();
  const shown = session.transport === "websocket" && credentials.isOn ? credentials.ofRequest(request) : undefined;
  if (shown) attempt.rights = credentials.judge(shown.token, shown.way);
  if (attempt.isDenied || (shown && !attempt.rights)) {
    session.say({ op: "error", code: "unauthenticated", message: "the token is not valid" });
    return session.close(4401, "no valid token: get a fresh one and reconnect");
  }
  session.hasToken = attempt.rights !== undefined;
  session.isAdmitted = session.hasToken || !credentials.isRequired;
  if (attempt.rights) session.say({ op: "authenticated", ...attempt.rights });
  session.holdsValues = plan.hold === "values";
  if (attempt.topics.length && session.isAdmitted) {
    server.ask(attempt, attempt);
    session.subscribe({ topics: attempt.topics, since: attempt.since });
  }
  if (plan.mute_after === "subscribed") session.outlet.mute();
  return undefined;
}
