import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createChatMapper } from "../../src/ai/providers/compatible/map-chunks.ts";
import type { MappedEvent } from "../../src/ai/providers/event-mapper.ts";
import { noUsage } from "../../src/ai/usage.ts";

function mapAll(payloads: unknown[]): MappedEvent[] {
  const mapper = createChatMapper();
  const parts: MappedEvent[] = [];
  for (const data of payloads) {
    const event = { event: null, data: typeof data === "string" ? data : JSON.stringify(data) };
    for (let part = mapper.map(event); part; part = mapper.mapNext?.() ?? null) parts.push(part);
    if (["finish", "error"].includes(parts.at(-1)?.type ?? "")) return parts;
  }
  return [...parts, mapper.end?.() ?? []].flat();
}

const delta = (content: unknown, finish_reason: unknown = null) => ({
  choices: [{ index: 0, delta: content, finish_reason }],
});
const message = (content: unknown, finish_reason: unknown = null) => ({
  choices: [{ index: 0, message: content, finish_reason }],
});
const finish = (reason: string) => ({ type: "finish", reason, usage: null }) as const;
const text = (value: string) => ({ type: "text", text: value });
const reasoning = (value: string) => ({ type: "reasoning", text: value });
const retryableError = { type: "error", error: { code: "provider_unavailable", retryable: true } };

test.each<[string, unknown[], unknown[]]>([
  ["[DONE] without finish_reason", [delta({ content: "a" }), "[DONE]"], [text("a"), finish("stop")]],
  ["an unfinished answer", [delta({ content: "a" })], [text("a")]],
  ["text and end in one chunk", [delta({ content: "a" }, "length")], [text("a"), finish("length")]],
  ["reasoning and text in one chunk", [delta({ reasoning: "a", content: "b" })], [reasoning("a"), text("b")]],
  [
    "reasoning in all known fields",
    [
      delta({ reasoning: "a" }),
      delta({ reasoning_content: "b", reasoning: "b" }),
      delta({ thinking: "c" }),
      delta({
        reasoning_details: [
          { type: "reasoning.text", text: "d" },
          { type: "reasoning.summary", summary: "e" },
        ],
      }),
      delta({ reasoning_details: [{ type: "reasoning.encrypted", data: "x" }] }),
      delta({ content: [{ type: "thinking", thinking: [{ type: "text", text: "f" }] }] }),
    ],
    [reasoning("a"), reasoning("b"), reasoning("c"), reasoning("de"), reasoning(""), reasoning("f")],
  ],
  [
    "content as an array of parts",
    [
      delta({
        content: [{ type: "thinking", thinking: "a" }, { type: "text", text: "b" }, "c", { type: "image", text: "d" }],
      }),
    ],
    [reasoning("a"), text("bc")],
  ],
  ["a part that is not in an array", [delta({ content: { type: "text", text: "a" } })], [text("a")]],
  ["text in legacy fields", [delta({ text: "a" }), { choices: [{ text: "b" }] }], [text("a"), text("b")]],
  ["a refusal", [delta({ content: null, refusal: "No." })], [text("No.")]],
  ["a complete message in a single chunk", [message({ content: "a" }, "stop")], [text("a"), finish("stop")]],
  [
    "a message that grows",
    [message({ content: "a" }), message({ content: "ab" }), message({ content: "ab" }, "stop")],
    [text("a"), text("b"), finish("stop")],
  ],
  ["a message in pieces", [message({ content: "Hi " }), message({ content: "you" })], [text("Hi "), text("you")]],
  [
    "a message that repeats the deltas",
    [delta({ content: "a", reasoning: "r" }), message({ content: "a", reasoning_content: "r" }, "stop")],
    [reasoning("r"), text("a"), finish("stop")],
  ],
  [
    "an empty delta next to a message",
    [{ choices: [{ delta: { content: "" }, message: { content: "a" }, finish_reason: "stop" }] }],
    [text("a"), finish("stop")],
  ],
  [
    "text after the end",
    [delta({ content: "a" }, "stop"), delta({ content: "b" })],
    [text("a"), text("b"), finish("stop")],
  ],
])("maps %s", (_name, payloads, parts) => {
  expect(mapAll(payloads)).toEqual(parts as MappedEvent[]);
});

test("fields of wrong types are ignored without losing text", () => {
  const invalidPayloads: unknown[] = [
    "",
    "null",
    "5",
    '"text"',
    "[]",
    {},
    { choices: null },
    { choices: {} },
    { choices: "x" },
    { choices: [null] },
    { choices: ["x"] },
    { choices: [{ delta: "x" }] },
    { choices: [{ index: "x", delta: [], finish_reason: {} }] },
    { choices: [], usage: "none" },
    { choices: [], usage: [], x_groq: 5 },
    { choices: [], error: null },
    { ...delta({ content: "" }), error: {} },
    { ...delta({ content: "" }), id: {}, model: 5, created: "x", object: 7 },
    delta(null),
    delta({ content: 5 }),
    delta({ content: true, reasoning: 7, reasoning_content: {}, reasoning_details: "x" }),
    delta({ content: [5, null, { type: "text", text: 5 }, { type: 7 }] }),
    delta({ tool_calls: {} }),
    delta({ tool_calls: "x" }),
    delta({
      tool_calls: [null, 5, {}, { index: 0 }, { function: {} }, { id: null, function: { name: "", arguments: "" } }],
    }),
    delta({ content: "" }, 5),
    delta({ content: "" }, "null"),
    delta({ content: "" }, ""),
    message(5),
  ];
  const payloads = [
    delta({ content: "a" }),
    ...invalidPayloads,
    delta({ content: "b" }),
    delta({}, "stop"),
    ...invalidPayloads,
  ];
  expect(mapAll(payloads)).toEqual([text("a"), text("b"), finish("stop")] as MappedEvent[]);
});

test("invalid values in other fields don't affect the text", () => {
  const names = ["id", "model", "created", "usage", "service_tier", "x_groq", "system_fingerprint"];
  const choiceNames = [
    "index",
    "logprobs",
    "usage",
    "delta.role",
    "delta.tool_calls",
    "delta.function_call",
    "delta.audio",
  ];
  const deltaNames = ["delta.refusal", "delta.reasoning", "delta.reasoning_content", "delta.reasoning_details"];
  const value = fc.jsonValue({ maxDepth: 3 }).filter((json) => !/error/.test(JSON.stringify(json)));
  const invalidField = fc.tuple(fc.constantFrom(...names, ...choiceNames, ...deltaNames), value);
  const build = (content: string, fields: [string, unknown][]) => {
    const chunk: Record<string, unknown> = {};
    const choice: Record<string, unknown> = {};
    const deltaFields: Record<string, unknown> = {};
    for (const [name, json] of fields)
      if (name.startsWith("delta.")) deltaFields[name.slice("delta.".length)] = json;
      else (names.includes(name) ? chunk : choice)[name] = json;
    return { ...chunk, choices: [{ ...choice, delta: { ...deltaFields, content } }] };
  };
  fc.assert(
    fc.property(fc.array(invalidField), fc.array(invalidField), (first, second) => {
      const parts = mapAll([build("a", first), build("b", second), delta({}, "stop"), "[DONE]"]);
      expect(parts.map((part) => (part.type === "text" ? part.text : "")).join("")).toBe("ab");
      expect(parts.at(-1)?.type).toBe("finish");
    }),
  );
});

describe("the finish reason", () => {
  test.each([
    ["stop", ["stop", "STOP", "eos", "eos_token", "end_turn", "stop_sequence", "COMPLETE", "FinishReason.STOP"]],
    ["stop", ["FINISH_REASON_STOP", "stop_token"]],
    ["length", ["length", "max_tokens", "MAX_TOKENS", "maxTokens", "model_length", "model_context_window_exceeded"]],
    ["content_filter", ["content_filter", "SAFETY", "recitation", "sensitive", "refusal"]],
    ["stop", ["tool_calls", "tool_use", "function_call"]],
  ])("is mapped to %s", (reason, words) => {
    for (const word of words)
      expect(mapAll([delta({ content: "a" }), delta({}, word)])).toEqual([text("a"), finish(reason)] as MappedEvent[]);
  });

  test.each([
    "insufficient_system_resource",
    "abort",
    "error",
    "malformed_function_call",
    "OTHER",
    "network_error",
    "FINISH_REASON_UNSPECIFIED",
    "5",
  ])("%s is an error", (word) => {
    expect(mapAll([delta({ content: "a" }, word), "[DONE]"])).toMatchObject([text("a"), retryableError]);
  });

  test("is the first if a server sends several", () => {
    const parts = [text("a"), finish("length")] as MappedEvent[];
    expect(mapAll([delta({ content: "a" }, "length"), delta({}, "error"), "[DONE]"])).toEqual(parts);
  });
});

describe("tool calls", () => {
  const call = { function: { name: "f", arguments: '{"a":1}' } };
  const calls = [{ id: expect.stringMatching(/^call_/), name: "f", arguments: '{"a":1}' }];
  const finishEvent = { type: "finish", reason: "tool_calls", usage: null, toolCalls: calls };

  test.each<[string, unknown[]]>([
    ["in a delta", [delta({ tool_calls: [call] }), delta({}, "tool_calls")]],
    ["without an array", [delta({ tool_calls: call }), delta({}, "tool_calls")]],
    ["with another finish reason", [delta({ tool_calls: [call] }), delta({}, "stop")]],
    [
      "in legacy fields",
      [delta({ function_call: { name: "f" } }), delta({ function_call: { arguments: '{"a":1}' } }, "function_call")],
    ],
    ["in a message", [message({ content: null, tool_calls: [call] }, "tool_calls")]],
    [
      "in deltas, and repeated in a message",
      [delta({ tool_calls: [call] }), message({ tool_calls: [call] }, "tool_calls")],
    ],
  ])("are read %s", (_name, payloads) => {
    const parts = mapAll(payloads);
    expect(parts.at(-1)).toEqual(finishEvent as MappedEvent);
    expect(new Set(parts.slice(0, -1).map(({ type }) => type))).toEqual(new Set(["tool_call"]));
  });

  test("are ignored if they may be truncated", () => {
    expect(mapAll([delta({ tool_calls: [call] }), delta({}, "length")]).at(-1)).toEqual(
      finish("length") as MappedEvent,
    );
  });

  test("come after the text of their chunk", () => {
    expect(mapAll([delta({ content: "a", tool_calls: [call] })]).map(({ type }) => type)).toEqual([
      "text",
      "tool_call",
    ]);
  });
});

describe("usage", () => {
  const openaiUsage = { prompt_tokens: 100, completion_tokens: 40, total_tokens: 140 };
  const readUsage = (...payloads: unknown[]) => {
    const last = mapAll([delta({ content: "a" }), ...payloads, "[DONE]"]).at(-1);
    return last?.type === "finish" ? last.usage : "no end";
  };
  const usage = { ...noUsage, input_tokens: 100, output_tokens: 40 };

  test.each<[string, unknown[], object]>([
    ["in the last chunk", [delta({}, "stop"), { choices: [], usage: openaiUsage }], {}],
    ["in the chunk with the finish reason", [{ ...delta({}, "stop"), usage: openaiUsage }], {}],
    ["in the choice", [{ choices: [{ delta: {}, finish_reason: "stop", usage: openaiUsage }] }], {}],
    ["in Groq's own fields", [{ ...delta({}, "stop"), x_groq: { usage: openaiUsage } }], {}],
    [
      "from the last of several chunks",
      [
        { choices: [], usage: { ...openaiUsage, completion_tokens: 2 } },
        { choices: [], usage: openaiUsage },
      ],
      {},
    ],
    [
      "even if later chunks contain none",
      [{ choices: [], usage: openaiUsage }, { choices: [], usage: { prompt_tokens: -1 } }, { usage: {} }],
      {},
    ],
    [
      "from OpenAI's cache",
      [{ usage: { ...openaiUsage, prompt_tokens_details: { cached_tokens: 60 } } }],
      { cached_input_tokens: 60 },
    ],
    [
      "from DeepSeek's cache",
      [{ usage: { ...openaiUsage, prompt_cache_hit_tokens: 60 } }],
      { cached_input_tokens: 60 },
    ],
    ["from Moonshot's cache", [{ usage: { ...openaiUsage, cached_tokens: 60 } }], { cached_input_tokens: 60 }],
    [
      "with OpenRouter's cache writes",
      [{ usage: { ...openaiUsage, prompt_tokens_details: { cached_tokens: 10, cache_write_tokens: 60 } } }],
      { cached_input_tokens: 10, cache_write_tokens: 60 },
    ],
    [
      "with reasoning",
      [{ usage: { ...openaiUsage, completion_tokens_details: { reasoning_tokens: 30 } } }],
      { reasoning_tokens: 30 },
    ],
    [
      "with reasoning that only the total includes",
      [{ usage: { ...openaiUsage, total_tokens: 170, completion_tokens_details: { reasoning_tokens: 30 } } }],
      { output_tokens: 70, reasoning_tokens: 30 },
    ],
    [
      "with reasoning that only the total reveals",
      [{ usage: { ...openaiUsage, total_tokens: 170 } }],
      { output_tokens: 70 },
    ],
    ["with a total that is too small", [{ usage: { ...openaiUsage, total_tokens: 20 } }], {}],
    ["with an impossible total", [{ usage: { ...openaiUsage, total_tokens: 1e15 } }], {}],
    ["with an implausible total", [{ usage: { ...openaiUsage, total_tokens: 1_000_000 } }], {}],
    [
      "with a larger total, but no reasoning",
      [{ usage: { ...openaiUsage, total_tokens: 170, completion_tokens_details: { reasoning_tokens: 0 } } }],
      {},
    ],
    [
      "with cached tokens that the prompt doesn't include",
      [{ usage: { ...openaiUsage, total_tokens: 640, prompt_tokens_details: { cached_tokens: 500 } } }],
      { cached_input_tokens: 100 },
    ],
    [
      "with more reasoning than completion tokens",
      [{ usage: { ...openaiUsage, total_tokens: null, completion_tokens_details: { reasoning_tokens: 50 } } }],
      { output_tokens: 90, reasoning_tokens: 50 },
    ],
    [
      "with details of wrong types",
      [{ usage: { ...openaiUsage, prompt_tokens_details: { cached_tokens: "9" }, completion_tokens_details: 5 } }],
      {},
    ],
  ])("is read %s", (_name, payloads, parts) => {
    expect(readUsage(...payloads)).toEqual({ ...usage, ...parts });
  });

  test.each([7.5, 1e15, "7", -1, {}, null, true])("ignores a count of %p", (count) => {
    const invalidField = { prompt_tokens: count, completion_tokens: count, total_tokens: count };
    expect(readUsage({ usage: invalidField })).toBeNull();
    expect(readUsage({ usage: { ...invalidField, prompt_tokens: 100 } })).toEqual({ ...usage, output_tokens: null });
  });

  test("is reported before the end, in case the stream fails", () => {
    expect(mapAll([{ choices: [], usage: openaiUsage }])).toEqual([{ type: "usage", usage }]);
  });
});

describe("an error in the stream", () => {
  test.each<[string, unknown]>([
    ["a string", { error: "out of memory" }],
    ["a number", { error: 500 }],
    ["an object with a code", { error: { message: "no", code: 503 } }],
    ["an object with a type", { error: { message: "no", type: "server_error" } }],
    ["an empty object", { error: {} }],
    ["the whole chunk", { object: "error", message: "no", type: "InternalServerError", code: 500 }],
    [
      "a field of the choice",
      { choices: [{ delta: { content: "" }, error: { code: 502, message: "no" }, finish_reason: "error" }] },
    ],
    ["a field of Groq's", { ...delta({}), x_groq: { error: "overloaded" } }],
    ["only a status", { status: 500, message: "no" }],
  ])("can be %s", (_name, data) => {
    expect(mapAll([data, "[DONE]"])).toMatchObject([retryableError]);
  });

  test.each<[string, unknown]>([
    ["DashScope", { code: "InvalidParameter", message: "no", request_id: "x" }],
    ["Bedrock", { __type: "ValidationException", message: "no" }],
    ["FastAPI", { detail: [{ loc: ["body", "n"], msg: "no", type: "value_error.missing" }] }],
    ["only a number", { error_code: 17, error_msg: "invalid model" }],
    ["an array, as Google sends", [{ error: { code: 400, message: "no", status: "INVALID_ARGUMENT" } }]],
    ["an object in its message", { error: { message: { code: 400, message: "no" } } }],
  ])("isn't retried if it is a rejection (%s)", (_name, data) => {
    const parts = mapAll([data, "[DONE]"]);
    expect(parts).toMatchObject([{ type: "error", error: { cause: expect.stringMatching(/no\b|invalid model/) } }]);
    if (!/number/.test(_name)) expect(parts).toMatchObject([{ error: { code: "provider_refused", retryable: false } }]);
  });

  test.each<[string, object]>([
    ["a success code", { code: 0, message: "success" }],
    ["a success name", { code: "Success", message: "" }],
    ["a progress report", { status: "queued", message: "one moment" }],
    ["a progress event", { type: "progress", detail: "30 %" }],
  ])("isn't %s", (_name, fields) => {
    expect(mapAll([fields, { ...delta({ content: "a" }, "stop"), ...fields }, "[DONE]"])).toEqual([
      text("a"),
      finish("stop"),
    ] as MappedEvent[]);
  });

  test("includes the provider's message in its cause", () => {
    const error = mapAll([{ error: { message: "model is loading", code: "warming_up" } }]).at(0);
    expect(error).toMatchObject({ error: { cause: expect.stringContaining("warming_up: model is loading") } });
  });
});

describe("a JSON document instead of a stream", () => {
  const mapWhole = (document: unknown) => createChatMapper().mapDocument?.(document);

  test.each<[string, unknown, unknown[]]>([
    ["a completion", message({ role: "assistant", content: "a" }, "stop"), [text("a"), finish("stop")]],
    ["a completion without a finish reason", message({ content: "a" }), [text("a"), finish("stop")]],
    [
      "a completion in a legacy format",
      { choices: [{ text: "a", finish_reason: "length" }] },
      [text("a"), finish("length")],
    ],
    [
      "a completion with token counts and reasoning",
      {
        ...message({ content: "a", reasoning_content: "r" }, "stop"),
        usage: { prompt_tokens: 3, completion_tokens: 4 },
      },
      [reasoning("r"), text("a"), { ...finish("stop"), usage: { ...noUsage, input_tokens: 3, output_tokens: 4 } }],
    ],
    [
      "tool calls without indexes",
      message({
        tool_calls: [
          { id: "a", function: { name: "f", arguments: { x: 1 } } },
          { id: "b", function: { name: "f" } },
        ],
      }),
      [
        { type: "tool_call" },
        {
          ...finish("tool_calls"),
          toolCalls: [
            { id: "a", name: "f", arguments: '{"x":1}' },
            { id: "b", name: "f", arguments: "{}" },
          ],
        },
      ],
    ],
  ])("can be %s", (_name, document, parts) => {
    expect(mapWhole(document)).toEqual(parts as MappedEvent[]);
  });

  test("fails if the completion failed", () => {
    expect(mapWhole(message({ content: null }, "error"))).toMatchObject([retryableError]);
  });

  test.each<[string, unknown]>([
    ["another document", { status: "ok" }],
    ["a list", []],
    ["a string", "ok"],
  ])("isn't an answer if it is %s", (_name, document) => {
    expect(mapWhole(document)).toEqual([]);
  });
});
