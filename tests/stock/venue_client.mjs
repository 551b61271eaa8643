// A client of a venue from npm, unchanged but for the URL, that does what lines on its stdin say.
//
// Usage: venue_client.mjs CLIENT BASE-URL ITEM...
//
// Prints `started`, then an event a line, as JSON, and `lost` when its connection ends. The end of stdin ends it.

import tmi from "tmi.js";

const [client, base, ...items] = process.argv.slice(2);
const show = (stream, data) => console.log(JSON.stringify({ data, stream }));

const CLIENTS = {
  async tmi() {
    const { hostname, port } = new URL(base);
    const channels = items.map((item) => item.split(".")[1]);
    const connection = { server: hostname, port: Number(port), secure: false, reconnectInterval: 100 };
    const chat = new tmi.Client({ connection, options: { joinInterval: 300, skipMembership: true }, channels });
    chat.on("message", (channel, tags, message) => show(channel, [tags.username, tags["display-name"], message]));
    chat.on("messagedeleted", (channel, username, message) => show(channel, ["deleted", username, message]));
    chat.on("timeout", (channel, username, _, seconds) => show(channel, ["timeout", username, seconds]));
    chat.on("resub", (channel, username, months, message) => show(channel, ["resub", username, months, message]));
    chat.on("join", (channel, username, self) => self && console.error(`joined ${channel} as ${username}`));
    chat.on("disconnected", () => console.log("lost"));
    // It tries again by itself.
    chat.connect().catch((error) => console.error(error));
  },
};

console.log("started");
process.stdin.resume().on("end", () => process.exit(0));
await CLIENTS[client]();
