/** A real nginx in front of the server, for the time of a check. Its ways are closed as long as a file says so. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { freePorts, until } from "./kit.mjs";

const TARGET = process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL("../../../target", import.meta.url));
/** Where `tests/setup` unpacks it, or the system has it. */
const TOOLS = resolve(TARGET, "tools/usr");
const FOLDERS = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", join(TOOLS, "sbin")];
const NGINX = FOLDERS.map((folder) => join(folder, "nginx")).find(existsSync);
/** Its libraries lie beside it if it was unpacked and not installed. */
const LIBRARIES = join(TOOLS, `lib/${{ x64: "x86_64", arm64: "aarch64" }[process.arch]}-linux-gnu`);

/** Why nginx cannot be run, or false. */
export const lacksNginx = NGINX ? false : "there is no nginx";

/** As docs/FALLBACKS.md has it. */
const FREE = `
  proxy_http_version 1.1;
  proxy_set_header Host $host;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $hop;
  proxy_buffering off;
  proxy_read_timeout 60s;`;

/** What a page at a proxy may import. */
const CLIENT = fileURLToPath(new URL("..", import.meta.url));

/** One way to the server. While it is closed, `upgrade` and `plain` say what happens to requests that ask for WebSocket, and to others. */
function way({ flag, port, upgrade, plain }) {
  return `server {
    listen 127.0.0.1:${port};
    if (-f ${flag}) { rewrite ^/v1/(.*)$ /closed/$kind/$1; }
    location = /client { return 200 "<!doctype html>"; }
    location /client/ { alias ${CLIENT}; }
    location / { ${FREE} proxy_pass http://fanline; }
    location /closed/upgrade/ { ${upgrade ?? `${FREE} proxy_pass http://fanline/v1/;`} }
    location /closed/plain/ { ${plain ?? `${FREE} proxy_pass http://fanline/v1/;`} }
  }`;
}

/** @param {string} server its address @param {{flag: string, port: number, upgrade?: string, plain?: string}[]} ways */
function configuration(server, ways) {
  return `daemon off; pid nginx.pid; error_log stderr crit; worker_processes 1; worker_shutdown_timeout 300ms;
${process.getuid() === 0 ? "user root;" : ""}
events { }
http {
  access_log off; default_type text/html; types { text/javascript js mjs; }
  client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  map $http_upgrade $hop { default upgrade; "" ""; }
  map $http_upgrade $kind { default upgrade; "" plain; }
  upstream fanline { server ${server}; }
  ${ways.map(way).join("\n  ")}
}
`;
}

/**
 * Starts nginx with ways that are closed.
 * @param {string} url of the server
 * @param {{name: string, upgrade?: string, plain?: string}[]} ways
 */
export async function startProxy(url, ways) {
  const folder = mkdtempSync(join(tmpdir(), "fanline-proxy-"));
  const ports = await freePorts(ways.length);
  const placed = ways.map((it, i) => ({ ...it, flag: join(folder, `${it.name}.closed`), port: ports[i] }));
  for (const { flag } of placed) writeFileSync(flag, "");
  const place = (name) => placed.find((it) => it.name === name);
  writeFileSync(join(folder, "nginx.conf"), configuration(new URL(url).host, placed));
  const child = spawn(NGINX, ["-e", "stderr", "-p", folder, "-c", "nginx.conf"], {
    env: { ...process.env, LD_LIBRARY_PATH: LIBRARIES },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const ended = once(child, "exit");
  const hasEnded = ended.then(() => Promise.reject(new Error("expected nginx to run, found its end")));
  const listening = until("nginx to listen", () => placed.reduce(async (are, { port }) => (await are) && listens(port), Promise.resolve(true)));
  await Promise.race([listening, hasEnded]);
  hasEnded.catch(() => {});
  return {
    /** Address of a way. @param {string} name */
    url: (name) => `http://127.0.0.1:${place(name).port}`,
    /** @param {string} name */
    free: (name) => rmSync(place(name).flag),
    /** Streams are cut soon after; answers that end by then are not. */
    reload: () => child.kill("SIGHUP"),
    stop: async () => {
      child.kill();
      await ended;
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** A server that accepts, and never says anything. */
export async function startHole() {
  const sockets = new Set();
  const listener = createServer((socket) => sockets.add(socket.on("error", () => {})));
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const stop = () => {
    listener.close();
    for (const socket of sockets) socket.destroy();
  };
  return { host: `127.0.0.1:${listener.address().port}`, stop };
}

function listens(port) {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => resolve(socket.destroy() && true)).on("error", () => resolve(false));
  });
}
