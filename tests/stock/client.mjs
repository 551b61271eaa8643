// A stock client: Node's `ws`, unchanged, on a running fanline.
//
// Usage: client.mjs URL deflate|plain PATTERN[,PATTERN...] COUNT
//
// Receives COUNT frames in each of three ways (subscribed in the query, by command, raw), decodes them all and prints
// one JSON object: per way what it found, and the messages as received.

import WebSocket from "ws";

const DEADLINE_MS = 60_000;

const [url, mode, patterns, count] = process.argv.slice(2);

/** Decodes `texts`; an error in one of them ends the program, and so the test. */
function summarise(ws, texts) {
  const frames = texts.map((text) => JSON.parse(text));
  const offsets = frames.filter((frame) => "offset" in frame && "data" in frame).map((frame) => frame.offset);
  return {
    extensions: ws.extensions,
    subprotocol: ws.protocol,
    increasing: offsets.every((offset, index) => index === 0 || offsets[index - 1] < offset),
    offsets: offsets.length,
    texts,
  };
}

function receive(address, { command, raw = false } = {}) {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(address, "fanline.v1", { perMessageDeflate: mode === "deflate" });
    const texts = [];
    ws.on("error", reject);
    ws.on("close", (code, reason) => reject(new Error(`closed by the server: ${code} ${reason}`)));
    ws.on("open", () => command && ws.send(JSON.stringify(command)));
    ws.on("message", (data, isBinary) => {
      if (isBinary) return reject(new Error("expected text, found binary"));
      const text = data.toString();
      if (raw || !("op" in JSON.parse(text))) texts.push(text);
      if (texts.length === Number(count)) {
        ws.removeAllListeners("message");
        ws.removeAllListeners("close");
        ws.on("close", () => resolve(summarise(ws, texts)));
        ws.close();
      }
    });
  });
}

const deadline = setTimeout(() => {
  console.error(`expected ${count} frames three times within ${DEADLINE_MS} ms`);
  process.exit(1);
}, DEADLINE_MS);

const query = `${url}?topics=${encodeURIComponent(patterns)}`;
const command = { op: "subscribe", id: 1, topics: patterns.split(",") };
const found = {
  query: await receive(query),
  command: await receive(url, { command }),
  raw: await receive(`${query}&format=raw`, { raw: true }),
};
clearTimeout(deadline);
console.log(JSON.stringify(found));
