/**
 * A client's adapter as a program: JSON lines on stdin and stdout.
 *
 * @module runner/adapter_process
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

const HELLO_MS = 30_000;

export class AdapterProcess {
  /** Said first: name, version, transports, features. */
  hello;
  /** What it wrote for people. */
  stderr = "";
  /** Its program is over, or says what nobody can read. */
  hasEnded = false;
  #listeners = new Map();
  #child;

  /** @param {string} command for the shell @param {string} folder @returns {Promise<AdapterProcess>} */
  static async start(command, folder) {
    const adapter = new AdapterProcess();
    await adapter.#begin(command, folder);
    return adapter;
  }

  async #begin(command, folder) {
    // A group of its own, so that all of it can stand still.
    const child = spawn(`exec ${command}`, { cwd: folder, shell: true, detached: true, stdio: ["pipe", "pipe", "pipe"] });
    this.#child = child;
    child.stderr.on("data", (bytes) => (this.stderr = (this.stderr + bytes).slice(-4000)));
    child.stdin.on("error", () => {});
    child.on("exit", (code, signal) => this.#broken({ event: "ended", message: `the adapter has ended (${signal ?? code}): ${this.stderr.trim()}` }));
    const greeted = new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`expected \`hello\` of \`${command}\` within ${HELLO_MS / 1000} s`)), HELLO_MS);
      child.on("exit", () => reject(new Error(`expected \`hello\` of \`${command}\`, found its end: ${this.stderr.trim()}`)));
      this.#greet = (hello) => {
        clearTimeout(timer);
        resolve(hello);
      };
    });
    createInterface(child.stdout).on("line", (line) => this.#read(line));
    this.hello = await greeted;
    this.hello.features = [...(this.hello.features ?? []), "process"];
  }

  /** @param {string} client @param {(event: object) => void} listener */
  listen(client, listener) {
    this.#listeners.set(client, listener);
  }

  forget(client) {
    this.#listeners.delete(client);
  }

  /** @param {object} command */
  command(command) {
    this.#child.stdin.write(`${JSON.stringify(command)}\n`);
  }

  /** Stands still, as if the machine slept. */
  stop() {
    this.#signal("SIGSTOP");
  }

  continue() {
    this.#signal("SIGCONT");
  }

  async end() {
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== null || signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#signal("SIGCONT");
    this.#child.stdin.end();
    const timer = setTimeout(() => this.#signal("SIGKILL"), 2000);
    await ended;
    clearTimeout(timer);
  }

  #signal(signal) {
    try {
      process.kill(-this.#child.pid, signal);
    } catch {
      // It is over already.
    }
  }

  #greet = () => {};

  #read(line) {
    let event;
    try {
      event = JSON.parse(line);
    } catch {
      return this.#broken({ event: "ended", message: `an adapter writes JSON lines to stdout, found \`${line.slice(0, 200)}\`` });
    }
    if (event.event === "hello") return this.#greet(event);
    return this.#listeners.get(event.client)?.(event);
  }

  #broken(event) {
    this.hasEnded = true;
    for (const listener of this.#listeners.values()) listener(event);
  }
}
