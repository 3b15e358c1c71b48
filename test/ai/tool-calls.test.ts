import { expect, test } from "bun:test";
import {
  createToolCallStore,
  TOOL_ARGUMENTS_LENGTH_MAX,
  TOOL_CALLS_MAX,
  TOOL_LABEL_LENGTH_MAX,
} from "../../src/ai/providers/tool-calls.ts";
import { BrokenStreamError } from "../../src/ai/transport/event-stream.ts";

test("chunks are joined by key", () => {
  const calls = createToolCallStore();
  calls.add("a", { id: "1", name: "f", arguments: '{"x"' });
  calls.add("b", { id: "2", name: "g", arguments: { y: 2 } });
  calls.add("a", { arguments: ":1}" });
  expect(calls.list()).toEqual([
    { id: "1", name: "f", arguments: '{"x":1}' },
    { id: "2", name: "g", arguments: '{"y":2}' },
  ]);
});

test("a call without an id receives one, and a call without a name is dropped", () => {
  const calls = createToolCallStore();
  calls.add(0, { name: "f", arguments: "a\0b\ud800" });
  calls.add(1, { id: "2", arguments: "{}" });
  expect(calls.list()).toEqual([{ id: expect.stringMatching(/^call_/), name: "f", arguments: "ab\ufffd" }]);
});

test("null is ignored, and so is the string null as an id or name", () => {
  const calls = createToolCallStore();
  calls.add(0, { id: "1", name: "f", arguments: null });
  calls.add(0, { id: "null", name: "null", arguments: '{"x":1}' });
  calls.add(0, { id: null, name: null, arguments: null });
  expect(calls.list()).toEqual([{ id: "1", name: "f", arguments: '{"x":1}' }]);
});

test("every call has a unique id", () => {
  const calls = createToolCallStore();
  for (const key of [0, 1, 2]) calls.add(key, { id: "same", name: "f", arguments: "{}" });
  calls.add(3, { id: "x".repeat(TOOL_LABEL_LENGTH_MAX + 1), name: "f" });
  const ids = calls.list().map(({ id }) => id);
  expect(ids[0]).toBe("same");
  expect(new Set(ids).size).toBe(4);
  expect(ids[3]).toStartWith("call_");
});

test("too many calls, or overlong arguments, cause an error", () => {
  const calls = createToolCallStore();
  for (let key = 0; key < TOOL_CALLS_MAX; key += 1) calls.add(key, { name: "f" });
  expect(() => calls.add(TOOL_CALLS_MAX, { name: "f" })).toThrow(BrokenStreamError);
  const longCall = createToolCallStore();
  longCall.add(0, { name: "f", arguments: "x".repeat(TOOL_ARGUMENTS_LENGTH_MAX) });
  expect(() => longCall.add(0, { arguments: "x" })).toThrow(BrokenStreamError);
});
