// The smallest fan-out with Node's `ws`: each line of stdin goes to every client. Arguments: PORT, and `deflate` or nothing;
// with `lists` a client's first message names its topics, and a line goes to the clients of the topic that it names.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../tests/stock/package.json", import.meta.url));
const { WebSocket, WebSocketServer } = require("ws");

const [port, ...flags] = process.argv.slice(2);
// Messages are below the default threshold of 1024 bytes.
const perMessageDeflate = flags.includes("deflate") ? { threshold: 0 } : false;
const lists = flags.includes("lists");
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(port), perMessageDeflate });
const clientsOf = new Map();
if (lists) {
  server.on("connection", (client) => {
    client.once("message", (names) => {
      for (const topic of names.toString().split(",")) {
        if (!clientsOf.has(topic)) clientsOf.set(topic, new Set());
        clientsOf.get(topic).add(client);
      }
    });
  });
}
const start = '{"topic":"'.length;
createInterface({ input: process.stdin }).on("line", (line) => {
  const message = Buffer.from(line);
  const clients = lists ? clientsOf.get(line.slice(start, line.indexOf('"', start))) : server.clients;
  for (const client of clients ?? []) {
    if (client.readyState === WebSocket.OPEN) client.send(message, { binary: false });
  }
});
