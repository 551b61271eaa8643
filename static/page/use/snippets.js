/**
 * Ready code that subscribes to what the page shows. No DOM.
 *
 * @module snippets
 */

/** Filled in by the reader: a token has no place on a clipboard. */
const TOKEN = "TOKEN";

/**
 * @param {{page: URL, socket: URL, patterns: string[], needsToken: boolean}} what `page` ends with a slash
 * @returns {Record<"js"|"python"|"curl"|"wscat", {title: string, note: string, code: string}>}
 */
export function snippets({ page, socket, patterns, needsToken }) {
  const snapshot = new URL("snapshot", socket.href.replace(/^ws/, "http").split("?")[0]);
  // An apostrophe would end the quotes of a shell.
  const query = patterns.map((pattern) => encodeURIComponent(pattern).replaceAll("'", "%27")).join();
  const socketUrl = new URL(socket.href.split("?")[0]);
  const list = JSON.stringify(patterns);
  return {
    js: {
      title: "JavaScript",
      note: "In a web page. The module reconnects, resumes where it stopped, and knows which values are current.",
      code: `<script type="module">
  import { connect } from "${new URL("static/fanline.js", page).href}";

  const client = connect("${socketUrl.href}"${needsToken ? `, { token: "${TOKEN}" }` : ""});
  client.subscribe(${list}, ({ topic, data }) => {
    console.log(topic, client.isCurrent(topic) ? "current" : "old", data);
  });
</script>
`,
    },
    python: {
      title: "Python",
      note: "Needs the package websockets: pip install websockets.",
      code: `import asyncio, json, websockets

async def main():
    async with websockets.connect("${socketUrl.href}") as socket:
${needsToken ? `        await socket.send(json.dumps({"op": "auth", "token": "${TOKEN}"}))\n` : ""}        await socket.send(json.dumps({"op": "subscribe", "topics": ${list}}))
        async for text in socket:
            message = json.loads(text)
            if "op" not in message:
                print(message["topic"], message["offset"], message.get("data"), flush=True)
            elif message["op"] in ("stale", "skipped", "gap", "error"):
                print(message, flush=True)

asyncio.run(main())
`,
    },
    curl: {
      title: "curl",
      note: "The latest value of each topic, once.",
      code: `curl ${needsToken ? `-H 'Authorization: Bearer ${TOKEN}' ` : ""}'${snapshot.href}?topics=${query}'\n`,
    },
    wscat: {
      title: "wscat",
      note: "The feed's messages as they come, on a terminal.",
      code: `npx wscat ${needsToken ? `-H 'Authorization: Bearer ${TOKEN}' ` : ""}-c '${socketUrl.href}?topics=${query}&format=raw'\n`,
    },
  };
}
