// A stock client as a puppet: Firefox's WebSocket, headless, in a page that this program serves. It needs no package.
//
// Usage: window_firefox.mjs URL window, with FIREFOX naming the browser. It trusts the certificate in the file that
// NODE_EXTRA_CA_CERTS names.
//
// Hands back the extensions that were agreed on, then every message as decoded, one line each. Orders on stdin:
// `send TEXT`, `pause` (the browser stands still; a page that does not read would not keep it from reading), `resume`,
// `close`.

import { spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

// Nothing of the browser's own goes to the network.
const PREFERENCES = {
  "app.normandy.enabled": false,
  "app.update.disabledForTesting": true,
  "browser.aboutwelcome.enabled": false,
  "browser.shell.checkDefaultBrowser": false,
  "browser.startup.homepage_override.mstone": "ignore",
  "datareporting.policy.dataSubmissionEnabled": false,
  "dom.min_background_timeout_value": 4,
  "extensions.update.enabled": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "services.settings.server": "data:,",
  "toolkit.telemetry.enabled": false,
};

/** Runs in the page. */
function perform(url) {
  const ws = new WebSocket(url, "fanline.v1");
  let unsaid = [];
  let saying = Promise.resolve();
  const flush = () => {
    const body = unsaid.join("\n");
    unsaid = [];
    // One after another, so that they arrive in order.
    saying = saying.then(() => fetch("/said", { method: "POST", body }));
  };
  const say = (text) => {
    if (!unsaid.length) setTimeout(flush);
    unsaid.push(text);
  };
  const orders = new EventSource("/orders");
  orders.onmessage = ({ data }) => {
    const order = JSON.parse(data);
    if (order.op === "send") ws.send(order.text);
    else ws.close(1000);
  };
  ws.onopen = () => say(ws.extensions);
  ws.onmessage = ({ data }) => say(data);
  ws.onclose = async ({ code, reason, wasClean }) => {
    if (unsaid.length) flush();
    await saying;
    await fetch("/ended", { method: "POST", body: JSON.stringify({ how: `${code} ${reason}`, wasClean }) });
  };
}

const [url] = process.argv.slice(2);
let [orders, closing] = [];
const unheard = [];
const answers = {
  "/": (response) => response.end(`<!doctype html><script>(${perform})(${JSON.stringify(url)})</script>`),
  "/orders": (response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    orders = response;
    for (const order of unheard.splice(0)) tell(order);
  },
  "/said": (response, text) => {
    process.stdout.write(`${text}\n`);
    response.end();
  },
  "/ended": (response, text) => {
    response.end();
    const { how, wasClean } = JSON.parse(text);
    leave(closing && wasClean ? undefined : `closed by the server: ${how}`);
  },
};
const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const answer = answers[request.url];
  if (answer) answer(response, Buffer.concat(chunks).toString());
  else response.writeHead(404).end();
});
server.listen(0, "127.0.0.1");
await once(server, "listening");

const profile = await mkdtemp(join(tmpdir(), "fanline-firefox-"));
const lines = Object.entries(PREFERENCES).map(([name, value]) => `user_pref("${name}", ${JSON.stringify(value)});\n`);
await writeFile(join(profile, "user.js"), lines.join(""));
if (process.env.NODE_EXTRA_CA_CERTS) {
  // As if somebody had clicked "Accept the Risk": host, SHA-256, fingerprint.
  const { fingerprint256 } = new X509Certificate(await readFile(process.env.NODE_EXTRA_CA_CERTS));
  const exception = `${new URL(url).host}:\tOID.2.16.840.1.101.3.4.2.1\t${fingerprint256}\t\n`;
  await writeFile(join(profile, "cert_override.txt"), exception);
}
const page = `http://127.0.0.1:${server.address().port}/`;
const command = [process.env.FIREFOX ?? "firefox-esr", "--headless", "--no-remote", "--profile", profile, page];
// It does not outlive this program, not even where it stands still.
const firefox = spawn("setpriv", ["--pdeathsig", "KILL", ...command], {
  // Its caches go where its profile is.
  env: { ...process.env, HOME: profile, MOZ_CRASHREPORTER_DISABLE: "1" },
  stdio: "ignore",
});
const ended = once(firefox, "exit");
firefox.on("exit", (code) => closing || leave(`the browser has ended: ${code}`));

async function leave(error) {
  closing = true;
  firefox.kill();
  await ended;
  await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  if (error) console.error(error);
  process.exit(error ? 1 : 0);
}

function tell(order) {
  if (orders) orders.write(`data: ${JSON.stringify(order)}\n\n`);
  else unheard.push(order);
}

for await (const line of createInterface(process.stdin)) {
  const [op] = line.split(" ", 1);
  if (op === "pause") firefox.kill("SIGSTOP");
  else if (op === "resume") firefox.kill("SIGCONT");
  else {
    closing ||= op === "close";
    tell({ op, text: line.slice(op.length + 1) });
  }
}
