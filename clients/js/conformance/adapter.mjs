/**
 * The adapter of the conformance suite as a program: JSON lines on stdin and stdout.
 *
 * @module conformance/adapter
 */

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** Node before 22 has a WebSocket only when asked for. */
const FLAG = "--experimental-websocket";

if (globalThis.WebSocket || process.execArgv.includes(FLAG)) {
  const { adapter } = await import("./browser.mjs");
  const take = adapter((event) => process.stdout.write(`${JSON.stringify(event)}\n`));
  createInterface(process.stdin)
    .on("line", (line) => take(JSON.parse(line)))
    .on("close", () => process.exit(0));
} else {
  const child = spawn(process.execPath, [FLAG, "--no-warnings", fileURLToPath(import.meta.url)], { stdio: "inherit" });
  child.on("exit", (code) => process.exit(code ?? 1));
}
