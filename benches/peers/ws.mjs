// The smallest fan-out with Node's `ws`: each line of stdin goes to every client. Arguments: PORT, and `deflate` or nothing.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../tests/stock/package.json", import.meta.url));
const { WebSocket, WebSocketServer } = require("ws");

const [port, deflate] = process.argv.slice(2);
// Messages are below the default threshold of 1024 bytes.
const perMessageDeflate = deflate === "deflate" ? { threshold: 0 } : false;
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(port), perMessageDeflate });
createInterface({ input: process.stdin }).on("line", (line) => {
  const message = Buffer.from(line);
  for (const client of server.clients) {
    if (client.readyState === WebSocket.OPEN) client.send(message, { binary: false });
  }
});
