/**
 * One case with one client on one transport: its steps in order, then what holds always.
 *
 * @module runner/case_run
 */

import { FakeServer } from "../server/fake_server.mjs";
import { expectations } from "./expectations.mjs";
import { attemptsAfterEnd, violations } from "./invariants.mjs";
import { EXPECT_MS, Failure, shown } from "./match.mjs";
import { Record } from "./record.mjs";
import { serverSteps } from "./server_steps.mjs";

/** Time is short for the clients under test. */
const OPTIONS = {
  backoff_ms: 20,
  backoff_max_ms: 100,
  connect_deadline_ms: 10_000,
  probe_deadline_ms: 5000,
  poll_ms: 50,
  wait_ms: 400,
};

export class CaseRun {
  /** Subscriptions by name, of all clients. */
  subscriptions = new Map();
  /** Values of `{epoch}` before the last restart, oldest first. */
  epochs = [];
  #records = new Map();
  #tabs = new Map();
  #wakers = new Set();
  #broken = null;
  #asks = 0;

  /**
   * @param {object} test the case, as in its file
   * @param {string} transport
   * @param {import("./adapter_process.mjs").AdapterProcess} adapter
   * @param {string} prefix makes the names of its clients unique in the adapter
   * @param {() => Promise<object>} openTab an adapter of its own, for each client of a case about tabs
   */
  constructor(test, transport, adapter, prefix, openTab) {
    Object.assign(this, { test, transport, adapter, prefix, openTab });
    // A browser repeats a request by itself where a connection that it uses again is reset.
    this.server = new FakeServer({ ...test.server, keep_alive: !adapter.isBrowser });
    this.server.onRecord = () => this.#wake();
  }

  /** Runs it. @param {string} address @returns {Promise<string|null>} what was expected and seen, or null */
  async run(address) {
    await this.server.open(address);
    let at = 0;
    try {
      for (const step of this.test.steps) {
        at += 1;
        if (!step.only || step.only.includes(this.transport)) await this.#step(this.#filled(step));
      }
      await this.#finish();
      return null;
    } catch (error) {
      if (!(error instanceof Failure)) return `step ${at}: ${error.stack}`;
      return `step ${at}: ${error.message}`;
    } finally {
      for (const as of this.#records.keys()) {
        this.#adapterOf(as).command({ op: "close", client: this.#id(as) });
        this.#adapterOf(as).forget(this.#id(as));
      }
      for (const tab of this.#tabs.values()) await tab.end();
      this.server.close();
    }
  }

  /** What the client `as` has said. @returns {Record} */
  record(as = "a") {
    if (!this.#records.has(as)) {
      this.#records.set(as, new Record());
      this.#adapterOf(as).listen(this.#id(as), (event) => this.#take(as, event));
    }
    return this.#records.get(as);
  }

  /** @param {string} op @param {object} members */
  command(op, members, as = "a") {
    this.record(as);
    this.#adapterOf(as).command({ ...members, op, client: this.#id(as) });
  }

  /**
   * Waits until `look` gives something, and gives it.
   * @template T
   * @param {() => T|undefined} look
   * @param {() => string} told what was expected and seen, if it does not
   * @returns {Promise<T>}
   */
  async until(look, told, ms = this.test.deadline_ms ?? EXPECT_MS) {
    const deadline = Date.now() + ms;
    for (;;) {
      if (this.#broken) throw new Failure(this.#broken);
      const found = look();
      if (found !== undefined && found !== false) return found;
      const left = deadline - Date.now();
      if (left <= 0) throw new Failure(told());
      await this.woken(left);
    }
  }

  /** Until something happens, or so many ms have passed. */
  woken(ms) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#wakers.delete(done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#wakers.add(done);
    });
  }

  /** Until the adapter has said everything that its client has said so far. */
  async sync(as = "a") {
    const sync = ++this.#asks;
    this.command("sync", { sync }, as);
    const all = () => this.record(as).events;
    await this.until(() => all().some((event) => event.event === "synced" && event.sync === sync), () => "expected `synced`, found nothing");
    return all().findIndex((event) => event.event === "synced" && event.sync === sync);
  }

  async #step(step) {
    const { only: _, as = "a", ...rest } = step;
    if (rest.client) return this.#clientStep(rest, as);
    if (rest.server) return serverSteps(this, rest);
    if (rest.runner) return this.#runnerStep(rest, as);
    return expectations(this, rest, as);
  }

  async #clientStep({ client: op, ...members }, as) {
    if (op === "connect") {
      if (this.test.needs.includes("shared")) this.#tabs.set(as, await this.openTab());
      const transports = this.transport === "ladder" ? undefined : [this.transport];
      const options = { ...OPTIONS, transports, ...this.test.options, ...members.options };
      return this.command(op, { url: this.server.url, ...members, options }, as);
    }
    if (op === "subscribe") this.subscriptions.set(members.subscription, { topics: members.topics });
    if (op === "answer") members.question ??= this.question?.question;
    this.command(op, members, as);
    if (op !== "unsubscribe") return undefined;
    this.subscriptions.get(members.subscription).endedAt = await this.sync(as);
    return undefined;
  }

  async #runnerStep({ runner, ms }, as) {
    if (runner === "kill") {
      this.#records.delete(as);
      this.#adapterOf(as).forget(this.#id(as)); // what it says before it is gone is no concern of the case
      await this.#tabs.get(as).end();
      this.#tabs.delete(as);
    } else if (runner === "stop") this.adapter.stop();
    else if (runner === "continue") this.adapter.continue();
    else if (runner === "sync") await this.sync(as);
    else if (runner === "wait") await new Promise((resolve) => setTimeout(resolve, ms));
    else throw new Failure(`there is no step \`${runner}\` of the runner`);
  }

  async #finish() {
    for (const as of this.#records.keys()) await this.sync(as);
    const found = [...this.server.faults];
    for (const record of this.#records.values()) {
      found.push(...violations(record, this.subscriptions, this.epochs.length));
      if (this.#records.size === 1) found.push(...attemptsAfterEnd(record, this.server.attempts));
      const untaken = this.test.loose ? [] : record.frames();
      if (untaken.length) found.push(`expected no further frame, found ${shown(untaken[0])}`);
      const threw = record.untaken("threw")[0];
      if (threw) found.push(`expected no command to fail, found ${shown(threw)}`);
    }
    if (found.length) throw new Failure(found[0]);
  }

  #take(as, event) {
    if (event.event === "ended") this.#broken = event.message;
    else this.record(as).add(event);
    this.#wake();
  }

  #wake() {
    for (const waker of [...this.#wakers]) waker();
  }

  #adapterOf(as) {
    return this.#tabs.get(as) ?? this.adapter;
  }

  #id(as) {
    return `${this.prefix}/${as}`;
  }

  /** `{epoch}`, `{epoch-1}` (before the restart), `{offset}` (the head), `{url}`, `{now}` and `{now-MS}` in the texts of a step. */
  #filled(value) {
    if (Array.isArray(value)) return value.map((one) => this.#filled(one));
    if (typeof value === "string") return this.#filledText(value);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, this.#filled(one)]));
  }

  #filledText(text) {
    const { epoch, offset } = this.server.feed;
    if (text === "{now}") return this.server.feed.now();
    if (text === "{offset}") return offset;
    text = text.replace(/\{now-(\d+)\}/g, (_, ms) => this.server.feed.now() - Number(ms));
    if (text === "{url}") return this.server.url;
    return text.replaceAll("{epoch}", epoch).replaceAll("{epoch-1}", this.epochs.at(-1)).replaceAll("{offset}", offset);
  }
}
