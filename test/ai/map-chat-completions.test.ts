import { expect, test } from "bun:test";
import { createChatMapper } from "../../src/ai/providers/compatible/map-chat-completions.ts";
import type { MappedEvent } from "../../src/ai/providers/stream-answer.ts";

function mapAll(datas: unknown[]): MappedEvent[] {
  const mapper = createChatMapper();
  const parts = datas.map((data) =>
    mapper.map({ event: null, data: typeof data === "string" ? data : JSON.stringify(data) }),
  );
  const isOver = parts.some((part) => part?.type === "finish" || part?.type === "error");
  return [...parts, isOver ? null : (mapper.end?.() ?? null)].filter((part) => part !== null);
}

const delta = (content: unknown, finish_reason: string | null = null) => ({
  choices: [{ index: 0, delta: content, finish_reason }],
});
const finish = (reason: string) => ({ type: "finish", reason, usage: null }) as const;

test.each([
  [
    "[DONE] from a server that gives no finish_reason",
    [delta({ content: "a" }), "[DONE]"],
    [{ type: "text", text: "a" }, finish("stop")],
  ],
  ["neither: no end", [delta({ content: "a" })], [{ type: "text", text: "a" }]],
  ["text and end in one chunk", [delta({ content: "a" }, "length")], [{ type: "text", text: "a" }, finish("length")]],
  ["an unknown end", [delta({}, "eos")], [finish("stop")]],
  [
    "old function calls",
    [delta({ function_call: { name: "f" } }, "function_call")],
    [{ type: "tool_call" }, finish("tool_calls")],
  ],
  [
    "thinking by both names",
    [delta({ reasoning: "a" }), delta({ reasoning_content: "b" })],
    [{ type: "activity" }, { type: "activity" }],
  ],
  [
    "empty events, empty and strange deltas",
    ["", {}, { choices: null }, delta(null), delta({ content: "" }), delta({ content: 5 })],
    [],
  ],
])("%s", (_name, datas, parts) => {
  expect(mapAll(datas)).toEqual(parts as MappedEvent[]);
});

test("usage is taken from any chunk", () => {
  const usage = { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 };
  expect(mapAll([{ ...delta({}, "stop"), usage }, "[DONE]"])).toEqual([
    { type: "finish", reason: "stop", usage: { input_tokens: 3, output_tokens: 4 } },
  ]);
});

test.each(["out of memory", { message: "no", code: 503 }, { message: "no", type: "server_error" }])(
  "the error %p",
  (error) => {
    expect(mapAll([{ error }])).toMatchObject([
      { type: "error", error: { code: "provider_unavailable", retryable: true } },
    ]);
  },
);
