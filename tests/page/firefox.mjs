/**
 * A headless Firefox, driven by Marionette (its own protocol of length-prefixed JSON over TCP): it needs no driver.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

import { DEADLINE_MS } from "./kit.mjs";

const POLL_MS = 100;
/** Nothing is asked of anyone but the test's own server. */
const PREFERENCES = {
  "marionette.port": 0,
  "app.update.enabled": false,
  "browser.shell.checkDefaultBrowser": false,
  "datareporting.policy.dataSubmissionEnabled": false,
  "extensions.update.enabled": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "toolkit.telemetry.enabled": false,
};

export class Firefox {
  #child;
  #profile;
  #socket;
  #nextId = 1;
  #waiting = new Map();
  #unread = Buffer.alloc(0);

  static async launch() {
    const firefox = new Firefox();
    firefox.#profile = await mkdtemp(join(tmpdir(), "fanline-firefox-"));
    const lines = Object.entries(PREFERENCES).map(([name, value]) => `user_pref("${name}", ${JSON.stringify(value)});\n`);
    await writeFile(join(firefox.#profile, "user.js"), lines.join(""));
    const options = ["--headless", "--marionette", "--no-remote", "--profile", firefox.#profile];
    firefox.#child = spawn(process.env.FIREFOX ?? "firefox-esr", options, { stdio: "ignore" });
    const portFile = join(firefox.#profile, "MarionetteActivePort");
    const deadline = Date.now() + DEADLINE_MS;
    while (!existsSync(portFile) || !(await readFile(portFile, "utf8"))) {
      if (Date.now() > deadline) throw new Error("expected Firefox to listen for Marionette, found no port");
      await pause(POLL_MS);
    }
    firefox.#socket = connect(Number(await readFile(portFile, "utf8")), "127.0.0.1");
    firefox.#socket.on("data", (bytes) => firefox.#read(bytes));
    await once(firefox.#socket, "connect");
    await firefox.#ask("WebDriver:NewSession", {});
    return firefox;
  }

  async goto(url) {
    await this.#ask("WebDriver:Navigate", { url });
  }

  /** @param {string} script with a `return` */
  async evaluate(script) {
    return (await this.#ask("WebDriver:ExecuteScript", { script, args: [] })).value;
  }

  /** Waits until an expression holds in the page. @param {string} what @param {string} expression */
  async until(what, expression) {
    const deadline = Date.now() + DEADLINE_MS;
    while (!(await this.evaluate(`return Boolean(${expression})`))) {
      if (Date.now() > deadline) {
        const seen = await this.evaluate("return document.body.innerText");
        throw new Error(`expected in Firefox: ${what}; found:\n${seen.slice(0, 1500)}`);
      }
      await pause(POLL_MS);
    }
  }

  async close() {
    this.#socket?.destroy();
    this.#child.kill("SIGKILL");
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, "exit");
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 3 });
  }

  #ask(command, parameters) {
    const id = this.#nextId++;
    const text = JSON.stringify([0, id, command, parameters]);
    this.#socket.write(`${Buffer.byteLength(text)}:${text}`);
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  #read(bytes) {
    this.#unread = Buffer.concat([this.#unread, bytes]);
    for (;;) {
      const colon = this.#unread.indexOf(":");
      const end = colon + 1 + Number(this.#unread.subarray(0, Math.max(colon, 0)).toString());
      if (colon < 0 || this.#unread.length < end) return;
      const message = JSON.parse(this.#unread.subarray(colon + 1, end).toString());
      this.#unread = this.#unread.subarray(end);
      if (!Array.isArray(message)) continue; // the greeting
      const [, id, error, result] = message;
      const { resolve, reject } = this.#waiting.get(id) ?? {};
      this.#waiting.delete(id);
      if (error) reject?.(new Error(`${error.error}: ${error.message}`));
      else resolve?.(result);
    }
  }
}
