/**
 * The package as it is published: small, complete, typed, and its first example runs in an empty folder.
 *
 * SERVER_BINARY names a built fanline; without it the example is not run.
 */

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

const HERE = fileURLToPath(new URL("..", import.meta.url));
const BIN = join(HERE, "node_modules/.bin");
/** With all that it may load. */
const ALL_BYTES_MAX = 15_300;

let folder;
let tarball;

function run(program, args, options = {}) {
  try {
    return execFileSync(program, args, { cwd: HERE, encoding: "utf8", stdio: "pipe", ...options });
  } catch (error) {
    throw new Error(`${program} ${args.join(" ")}: ${error.stdout}${error.stderr}`);
  }
}

before(() => {
  folder = mkdtempSync(join(tmpdir(), "fanline-package-"));
  // Beside other runs, so in a copy.
  const copy = join(folder, "source");
  for (const name of ["src", "README.md", "package.json", "tsconfig.json"]) cpSync(join(HERE, name), join(copy, name), { recursive: true });
  symlinkSync(join(HERE, "node_modules"), join(copy, "node_modules"));
  run(join(BIN, "tsc"), ["-p", "."], { cwd: copy });
  run("npm", ["pack", "--ignore-scripts", "--pack-destination", folder], { cwd: copy });
  tarball = join(folder, readdirSync(folder).find((name) => name.endsWith(".tgz")));
  const project = join(folder, "project");
  mkdirSync(project);
  run("npm", ["init", "-y"], { cwd: project });
  run("npm", ["install", "--offline", "--no-audit", "--no-fund", tarball], { cwd: project });
});

after(() => rmSync(folder, { recursive: true, force: true }));

test("each part is as small as docs/CLIENT.md says, and so is everything", async () => {
  const options = { bundle: true, minify: true, splitting: true, format: "esm", target: "es2022", outdir: "out" };
  const built = await build({ entryPoints: [join(HERE, "src/fanline.js")], ...options, write: false, metafile: true });
  const files = new Map();
  for (const [path, { entryPoint = "", imports }] of Object.entries(built.metafile.outputs)) {
    const { contents } = built.outputFiles.find((it) => it.path.endsWith(basename(path)));
    const together = imports.filter(({ kind }) => kind === "import-statement").map((it) => it.path);
    files.set(path, { part: basename(entryPoint), size: gzipSync(contents, { level: 9 }).length, together });
  }
  /** A file and what is loaded together with it. */
  const whole = (path) => files.get(path).size + files.get(path).together.reduce((sum, it) => sum + whole(it), 0);
  const parts = new Map([...files].filter(([, { part }]) => part).map(([path, { part }]) => [part, whole(path)]));
  const all = [...files.values()].reduce((sum, { size }) => sum + size, 0);
  console.log(`min+gzip: ${[...parts].map((it) => it.join(" ")).join(", ")}, everything ${all} bytes`);

  const text = readFileSync(join(HERE, "../../docs/CLIENT.md"), "utf8");
  const stated = new Map([...text.matchAll(/^\| `(\w+\.js)` \| (\d+) \|/gm)].map(([, part, bytes]) => [part, Number(bytes)]));
  assert.deepEqual([...stated.keys()].sort(), [...parts.keys()].sort(), "the parts that are loaded apart");
  for (const [part, bytes] of parts) {
    assert.ok(bytes <= stated.get(part), `expected at most ${stated.get(part)} bytes of ${part}, found ${bytes}`);
  }
  assert.ok(all <= ALL_BYTES_MAX, `expected at most ${ALL_BYTES_MAX} bytes in all, found ${all}`);
});

for (const [what, splitting] of [["in several files loads its parts from beside it", true], ["of one file has all parts", false]]) {
  test(`a bundle ${what}`, async () => {
    const outdir = join(folder, `bundle-${splitting}`);
    const entryPoints = [join(folder, "project/node_modules/fanline/src/fanline.js")];
    await build({ entryPoints, bundle: true, minify: true, splitting, format: "esm", target: "es2022", outdir });
    writeFileSync(join(outdir, "package.json"), JSON.stringify({ type: "module" }));
    const { connect } = await import(pathToFileURL(join(outdir, "fanline.js")).href);
    let heard;
    const pinged = new Promise((resolve) => (heard = resolve));
    class Socket {
      readyState = 1;
      constructor() {
        queueMicrotask(() => {
          this.onopen();
          this.onmessage({ data: JSON.stringify({ op: "welcome", epoch: "e", offset: 0, ts: Date.now(), heartbeat_ms: 15_000 }) });
        });
      }
      send(text) {
        if (JSON.parse(text).op === "ping") heard(text);
      }
      close() {}
    }
    const client = connect("ws://host/v1/ws", { WebSocket: Socket });
    client.on("error", heard);
    assert.match(await pinged, /ping/, "what watches over connections was loaded");
    client.close();
  });
}

test("there is no dependency", () => {
  const { dependencies } = JSON.parse(readFileSync(join(HERE, "package.json"), "utf8"));
  assert.equal(dependencies, undefined);
});

test("publint finds nothing", () => {
  run(join(BIN, "publint"), ["run", "--strict", join(folder, "project/node_modules/fanline")]);
});

test("are-the-types-wrong finds nothing", () => {
  run(join(BIN, "attw"), [tarball, "--profile", "esm-only", "--no-emoji"]);
});

test("strict TypeScript compiles the examples and those of the documentation against the package", () => {
  const project = join(folder, "project");
  cpSync(join(HERE, "examples"), join(project, "examples"), { recursive: true });
  const documents = join(HERE, "../../docs/client");
  let count = 0;
  for (const name of readdirSync(documents)) {
    for (const [, language, block] of readFileSync(join(documents, name), "utf8").matchAll(/```(tsx?)\n([^]*?)```/g)) {
      writeFileSync(join(project, `examples/documented_${++count}.${language}`), block);
    }
  }
  assert.ok(count >= 5, `found ${count}`);
  for (const name of ["react", "@types", "csstype"]) {
    symlinkSync(join(HERE, "node_modules", name), join(project, "node_modules", name));
  }
  const compilerOptions = {
    ...{ target: "ES2022", module: "NodeNext", jsx: "react-jsx", strict: true, noUncheckedIndexedAccess: true, noEmit: true },
    ...{ exactOptionalPropertyTypes: true, lib: ["ES2023", "ESNext.Disposable", "DOM"], types: [] },
  };
  writeFileSync(join(project, "package.json"), JSON.stringify({ type: "module" }));
  writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["examples"] }));
  run(join(BIN, "tsc"), ["-p", project]);
});

test("the first example of the README runs as printed in an empty folder", { timeout: 60_000 }, async (t) => {
  const binary = process.env.SERVER_BINARY;
  if (!binary) return t.skip("SERVER_BINARY names no fanline");
  const [, example] = /```js\n([^]*?)```/.exec(readFileSync(join(HERE, "README.md"), "utf8"));
  const port = await freePort();
  assert.match(example, /127\.0\.0\.1:8080/);
  const server = spawn(binary, ["--listen", `127.0.0.1:${port}`], { stdio: "ignore" });
  const flags = globalThis.WebSocket ? [] : ["--experimental-websocket", "--no-warnings"];
  const file = join(folder, "project/example.mjs");
  writeFileSync(file, example.replaceAll("127.0.0.1:8080", `127.0.0.1:${port}`));
  const program = spawn(process.execPath, [...flags, file], { cwd: join(folder, "project"), stdio: ["ignore", "pipe", "inherit"] });
  try {
    const lines = [];
    for await (const line of createInterface(program.stdout)) {
      lines.push(line);
      if (lines.length === 3) break;
    }
    for (const line of lines) assert.match(line, /^trade\.\S+ \S/);
    assert.equal(lines.length, 3);
  } finally {
    program.kill();
    server.kill();
  }
});

function freePort() {
  return new Promise((resolve) => {
    const listener = createServer().listen(0, "127.0.0.1", () => {
      const { port } = listener.address();
      listener.close(() => resolve(port));
    });
  });
}
