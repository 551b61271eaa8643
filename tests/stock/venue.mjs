// A venue with the package `ws`: gives each guest every inbound message of a recording, compressed as the options say.
// With a number as third argument the guest must have said so many messages first. On stdout come the port, then what was
// agreed on with each guest.

import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { WebSocketServer } from "ws";

const [capture, options, after = "0"] = process.argv.slice(2);
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
  let missing = Number(after);
  const pour = () => messages.forEach((message) => guest.send(message));
  if (missing === 0) pour();
  guest.on("message", () => {
    missing -= 1;
    if (missing === 0) pour();
  });
});
venue.on("listening", () => console.log(venue.address().port));
