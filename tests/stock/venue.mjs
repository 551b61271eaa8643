// A venue with the package `ws`: gives each guest every inbound message of a recording, compressed as the options say.
// On stdout come the port, then what was agreed on with each guest.

import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { WebSocketServer } from "ws";

const [capture, options] = process.argv.slice(2);
const messages = [];
for await (const line of createInterface({ input: createReadStream(capture) })) {
  const { dir, data, b64 } = JSON.parse(line);
  if (dir === "in") messages.push(data ?? Buffer.from(b64, "base64"));
}
const perMessageDeflate = { threshold: 0, ...JSON.parse(options) };
const venue = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate });
venue.on("headers", (headers) => {
  const agreed = headers.find((header) => header.startsWith("Sec-WebSocket-Extensions: ")) ?? ": ";
  console.log(agreed.slice(agreed.indexOf(": ") + 2));
});
venue.on("connection", (guest) => {
  for (const message of messages) guest.send(message);
});
venue.on("listening", () => console.log(venue.address().port));
