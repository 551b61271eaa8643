/** The parts that read what others write. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Frames } from "../src/frames.js";
import { readAnswer } from "../src/http.js";
import { Ladder } from "../src/ladder.js";
import { parseExact } from "../src/numbers.js";
import { EventParser } from "../src/sse.js";

test("events are read the same wherever the stream is cut, with any line ends", () => {
  const text = ['retry: 2417', "", ":", "event: welcome", 'data: {"op":"welcome"}', "", "id: e:7", "data: a", "data:b", "data", "", "data: cut"];
  const expected = [
    ['{"op":"welcome"}', "welcome", ""],
    ["a\nb\n", "", "e:7"],
  ];
  for (const end of ["\n", "\r\n", "\r"]) {
    const stream = text.join(end);
    for (let cut = 0; cut <= stream.length; cut++) {
      const events = [];
      const parser = new EventParser((...event) => events.push(event));
      for (const part of [stream.slice(0, cut), stream.slice(cut)]) parser.push(part);
      assert.deepEqual(events, expected, `${JSON.stringify(end)} at ${cut}`);
    }
  }
});

test("an answer gives each frame and note as it was written, by offset", () => {
  const frames = ['{"topic":"a","offset":3,"ts":1,"data":{"t":"]}\\"{["}}', '{"topic":"b","offset":5,"ts":1,"data":[12345678901234567890,{"x":[]}]}'];
  const notes = ['{"op":"gap","topic":"a","offset":4,"ts":1,"reason":"sequence"}'];
  const text = `{"epoch":"e","offset":5,"feed":{"state":"live"},"frames":[${frames}],"notes":[ ${notes} ],"skipped":{"from":1,"to":2}}`;
  assert.deepEqual(readAnswer(text).messages.map((it) => it.text), [frames[0], notes[0], frames[1]]);
  for (const wrong of ["null", "[]", '"x"', "{}", "<html>"]) assert.throws(() => readAnswer(wrong), wrong);
});

test("integers beyond 2^53 stay exact, everything else is as ever", () => {
  const text = '{"id":9007199254740993,"n":-12345678901234567890,"f":1.2345678901234567890,"e":1e400,"s":"12345678901234567890","a":[9007199254740991]}';
  const { id, n, ...others } = parseExact(text);
  assert.deepEqual([id, n], [9007199254740993n, -12345678901234567890n]);
  const { id: _, n: __, ...plain } = JSON.parse(text);
  assert.deepEqual(others, plain);
});

test("a loop that is slow gets the newest of each topic, and all changes since a snapshot", async () => {
  const frames = new Frames("latest");
  for (const [topic, offset, kind] of [["a", 1], ["b", 2], ["a", 3], ["c", 4, "snapshot"], ["c", 5, "delta"], ["c", 6, "delta"], ["d", 7, "delta"]]) {
    frames.push({ topic, offset, ts: 0, kind, data: 0 });
  }
  frames.end();
  const got = [];
  for (let frame; (frame = await frames.next()); ) got.push(frame.offset);
  assert.deepEqual(got, [3, 2, 4, 5, 6, 7]);
  const few = new Frames(2);
  for (let offset = 1; offset < 10; offset++) few.push({ topic: "a", offset, ts: 0, data: 0 });
  assert.deepEqual([(await few.next()).offset, (await few.next()).offset], [8, 9]);
});

test("a rung is left after two failures, three short lives, or being mute; the last leads to the first", () => {
  const ladder = () => new Ladder({}, { transports: [{ name: "websocket" }, "sse", "longpoll", "poll"] }, {});
  for (const [what, failures] of [
    ["failures", [[false, false], [false, false]]],
    ["short lives", [[false, true], [false, true], [false, true]]],
    ["mute", [[true, false]]],
  ]) {
    const it = ladder();
    const moves = failures.map((failure) => it.failed(0, ...failure));
    assert.deepEqual([moves.at(-1), moves.filter(Boolean).length, it.name()], [true, 1, "sse"], what);
  }
  const it = ladder();
  const names = [];
  for (let i = 0; i < 5; i++) names.push([it.failed(it.at, false, false), it.name()]);
  const expected = [[false, "websocket"], [true, "sse"], [true, "longpoll"], [true, "poll"], [false, "websocket"]];
  assert.deepEqual(names, expected, "a new round waits");
});
