/**
 * The JavaScript adapter in Debian's Chromium or Firefox, headless: each adapter is a frame of one page, and speaks by a
 * WebSocket of its own.
 *
 * @module runner/adapter_browser
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";

import { answer, RequestReader } from "../server/http.mjs";
import { CLOSE, frame, FrameReader, TEXT, upgraded } from "../server/websocket.mjs";

const HELLO_MS = 60_000;
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".json": "application/json" };

/** Nothing of the browser's own goes to the network; its delays after failures and its own repetitions are not what is tested. */
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
  "network.http.request.max-attempts": 1,
  "network.websocket.delay-failed-reconnects": false,
  "services.settings.server": "data:,",
  "toolkit.telemetry.enabled": false,
};
const CHROMIUM_FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-sync",
  "--disable-dev-shm-usage",
  "--remote-debugging-port=0",
];

export class AdapterBrowser {
  #adapters = new Map();
  #opened = 0;
  #orders;
  #child;
  #profile;
  #listener;

  /**
   * @param {"chromium"|"firefox"} browser
   * @param {string} clients the folder with `js`
   * @param {string} here this suite
   * @param {string[]} [without] what the browser lacks, such as `SharedWorker`
   */
  static async launch(browser, clients, here, without = []) {
    const host = new AdapterBrowser();
    await host.#begin(browser, clients, here, without);
    return host;
  }

  /** A new frame. @returns {Promise<FrameAdapter>} */
  async open() {
    this.#opened += 1;
    const name = `f${this.#opened}`;
    const adapter = new FrameAdapter(() => {
      this.#adapters.delete(name);
      this.#order(`close ${name}`);
    });
    this.#adapters.set(name, adapter);
    this.#order(`open ${name}`);
    await adapter.greeted;
    return adapter;
  }

  async close() {
    this.#child.kill();
    await this.#ended;
    this.#listener.close();
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }

  #ended;
  #ready;

  async #begin(browser, clients, here, without) {
    const ready = new Promise((resolve) => (this.#ready = resolve));
    const folders = [
      ["/clients/conformance/", here],
      ["/clients/", clients],
    ];
    this.#listener = createServer((socket) => {
      socket.on("error", () => {});
      const reader = new RequestReader(socket, (request) => this.#serve(socket, reader, request, folders));
    });
    this.#listener.listen(0, "127.0.0.1");
    await once(this.#listener, "listening");
    this.#profile = await mkdtemp(join(tmpdir(), "fanline-conformance-"));
    const query = without.map((name) => `without=${name}`).join("&");
    const page = `http://127.0.0.1:${this.#listener.address().port}/clients/conformance/browser/page.html?${query}`;
    this.#child = await start(browser, this.#profile, page);
    this.#ended = once(this.#child, "exit");
    const tooLate = setTimeout(() => {
      throw new Error(`expected ${browser} to open its page within ${HELLO_MS / 1000} s`);
    }, HELLO_MS);
    await Promise.race([
      ready,
      this.#ended.then(([code]) => {
        throw new Error(`expected ${browser} to run, found its end with ${code}`);
      }),
    ]);
    clearTimeout(tooLate);
  }

  async #serve(socket, reader, request, folders) {
    if (request.headers.upgrade) return this.#upgrade(socket, reader, request);
    const [prefix, folder] = folders.find(([start]) => request.path.startsWith(start)) ?? [];
    try {
      const file = join(folder, normalize(`/${request.path.slice(prefix.length)}`));
      const body = await readFile(file);
      return socket.write(answer(request, 200, { "content-type": TYPES[extname(file)] ?? "text/plain", "cache-control": "no-store" }, body));
    } catch {
      return socket.write(answer(request, 404, { "content-type": "text/plain" }, "there is no such file"));
    }
  }

  #upgrade(socket, reader, request) {
    const adapter = this.#adapters.get(request.query.get("adapter"));
    const frames = new FrameReader({
      onFault: () => socket.destroy(),
      onMessage: (opcode, payload) => {
        if (opcode === CLOSE) socket.end(frame(CLOSE, payload));
        else if (opcode === TEXT) adapter?.read(JSON.parse(payload.toString()));
      },
    });
    socket.setNoDelay(true);
    socket.write(upgraded(request.headers));
    reader.handOver((bytes) => frames.push(bytes));
    if (adapter) return adapter.attach(socket);
    this.#orders = socket;
    return this.#ready();
  }

  #order(text) {
    this.#orders.write(frame(TEXT, Buffer.from(text)));
  }
}

/** One frame; what the suite needs of an adapter. */
class FrameAdapter {
  hello;
  isBrowser = true;
  hasEnded = false;
  #listeners = new Map();
  #unsent = [];
  #socket;
  #greet;
  #leave;

  /** @param {() => void} leave removes the frame */
  constructor(leave) {
    this.#leave = leave;
    this.greeted = new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`expected \`hello\` of a frame within ${HELLO_MS / 1000} s`)), HELLO_MS);
      this.#greet = (hello) => {
        clearTimeout(timer);
        this.hello = hello;
        resolve();
      };
    });
  }

  attach(socket) {
    this.#socket = socket;
  }

  read(event) {
    if (event.event === "hello") return this.#greet(event);
    if (event.event !== "ended") return this.#listeners.get(event.client)?.(event);
    this.hasEnded = true;
    for (const listener of this.#listeners.values()) listener(event);
    return undefined;
  }

  listen(client, listener) {
    this.#listeners.set(client, listener);
  }

  forget(client) {
    this.#listeners.delete(client);
  }

  /** Commands of one turn go together. */
  command(command) {
    if (!this.#unsent.length) setImmediate(() => this.#socket.write(frame(TEXT, Buffer.from(JSON.stringify(this.#unsent.splice(0))))));
    this.#unsent.push(command);
  }

  async end() {
    this.#leave();
  }
}

/** Opens a page in a browser without a window. @param {"chromium"|"firefox"} browser @param {string} profile a folder @param {string} page */
export async function start(browser, profile, page) {
  const command = browser === "firefox" ? await firefox(profile, page) : chromium(profile, page);
  // It does not outlive this program.
  return spawn("setpriv", ["--pdeathsig", "KILL", ...command], {
    env: { ...process.env, HOME: profile, MOZ_CRASHREPORTER_DISABLE: "1" },
    stdio: "ignore",
  });
}

function chromium(profile, page) {
  return [process.env.CHROMIUM ?? "chromium", ...CHROMIUM_FLAGS, `--user-data-dir=${profile}`, page];
}

async function firefox(profile, page) {
  const lines = Object.entries(PREFERENCES).map(([name, value]) => `user_pref("${name}", ${JSON.stringify(value)});\n`);
  await writeFile(join(profile, "user.js"), lines.join(""));
  return [process.env.FIREFOX ?? "firefox-esr", "--headless", "--no-remote", "--profile", profile, page];
}
