// A stock client as a puppet: Node's `ws`, unchanged, on a running fanline.
//
// Usage: window_client.mjs URL window|no_takeover|bits10
//
// Hands back the extensions that were agreed on, then every message as decoded, one line each. Orders on stdin:
// `send TEXT`, `pause` (read nothing more), `resume`, `close`.

import { createInterface } from "node:readline";

import WebSocket from "ws";

const OFFERS = {
  window: true,
  no_takeover: { serverNoContextTakeover: true },
  bits10: { serverMaxWindowBits: 10 },
};

const [url, mode] = process.argv.slice(2);
const ws = new WebSocket(url, "fanline.v1", { perMessageDeflate: OFFERS[mode] });

let unsaid = "";
function say(text) {
  if (!unsaid) setImmediate(flush);
  unsaid += `${text}\n`;
}
function flush() {
  process.stdout.write(unsaid);
  unsaid = "";
}

let closing = false;
function obey(line) {
  const [order] = line.split(" ", 1);
  if (order === "send") ws.send(line.slice("send ".length));
  else if (order === "pause") ws.pause();
  else if (order === "resume") ws.resume();
  else if (order === "close") {
    closing = true;
    ws.close();
  } else throw new Error(`expected \`send TEXT\`, \`pause\`, \`resume\` or \`close\`, found \`${line}\``);
}

const orders = createInterface(process.stdin);
ws.on("upgrade", ({ headers }) => say(headers["sec-websocket-extensions"] ?? ""));
ws.on("open", () => orders.on("line", obey));
ws.on("message", (data, isBinary) => {
  if (isBinary) throw new Error("expected text, found binary");
  say(data.toString());
});
ws.on("close", (code, reason) => {
  if (!closing) throw new Error(`closed by the server: ${code} ${reason}`);
  orders.close();
});
