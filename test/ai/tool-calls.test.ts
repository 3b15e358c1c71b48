import { expect, test } from "bun:test";
import { createToolCalls, TOOL_ARGUMENTS_LENGTH_MAX, TOOL_CALLS_MAX } from "../../src/ai/providers/tool-calls.ts";
import { BrokenStreamError } from "../../src/ai/transport/event-stream.ts";

test("pieces are put together by their key, in the order in which the calls began", () => {
  const calls = createToolCalls();
  calls.add("a", { id: "1", name: "f", arguments: '{"x"' });
  calls.add("b", { id: "2", name: "g", arguments: { y: 2 } });
  calls.add("a", { arguments: ":1}" });
  expect(calls.list()).toEqual([
    { id: "1", name: "f", arguments: '{"x":1}' },
    { id: "2", name: "g", arguments: '{"y":2}' },
  ]);
});

test("a call without an id gets one, one without a name is left out, and all can be stored", () => {
  const calls = createToolCalls();
  calls.add(0, { name: "f", arguments: "a\0b\ud800" });
  calls.add(1, { id: "2", arguments: "{}" });
  expect(calls.list()).toEqual([{ id: expect.stringMatching(/^call_/), name: "f", arguments: "ab\ufffd" }]);
});

test("too many calls, and arguments without end, break the stream", () => {
  const calls = createToolCalls();
  for (let key = 0; key < TOOL_CALLS_MAX; key += 1) calls.add(key, { name: "f" });
  expect(() => calls.add(TOOL_CALLS_MAX, { name: "f" })).toThrow(BrokenStreamError);
  const long = createToolCalls();
  long.add(0, { name: "f", arguments: "x".repeat(TOOL_ARGUMENTS_LENGTH_MAX) });
  expect(() => long.add(0, { arguments: "x" })).toThrow(BrokenStreamError);
});
