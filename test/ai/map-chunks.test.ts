import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createChatMapper } from "../../src/ai/providers/compatible/map-chunks.ts";
import type { MappedEvent } from "../../src/ai/providers/event-mapper.ts";
import { noUsage } from "../../src/ai/usage.ts";

/** Returns the events for a stream of payloads, up to and including the first `finish` or `error`. */
function mapAll(payloads: unknown[]): MappedEvent[] {
  const mapper = createChatMapper();
  const mappedEvents: MappedEvent[] = [];
  for (const data of payloads) {
    const event = { event: null, data: typeof data === "string" ? data : JSON.stringify(data) };
    for (let mapped = mapper.map(event); mapped; mapped = mapper.mapNext?.() ?? null) mappedEvents.push(mapped);
    if (["finish", "error"].includes(mappedEvents.at(-1)?.type ?? "")) return mappedEvents;
  }
  return [...mappedEvents, mapper.end?.() ?? []].flat();
}

// The chunks that a server sends.
const deltaChunk = (content: unknown, finish_reason: unknown = null) => ({
  choices: [{ index: 0, delta: content, finish_reason }],
});
const messageChunk = (content: unknown, finish_reason: unknown = null) => ({
  choices: [{ index: 0, message: content, finish_reason }],
});
// The events that the mapper returns.
const finishEvent = (reason: string) => ({ type: "finish", reason, usage: null }) as const;
const textEvent = (value: string) => ({ type: "text", text: value });
const reasoningEvent = (value: string) => ({ type: "reasoning", text: value });
const retryableError = { type: "error", error: { code: "provider_unavailable", retryable: true } };

test.each<[string, unknown[], unknown[]]>([
  ["[DONE] without finish_reason", [deltaChunk({ content: "a" }), "[DONE]"], [textEvent("a"), finishEvent("stop")]],
  ["an unfinished answer", [deltaChunk({ content: "a" })], [textEvent("a")]],
  ["text and end in one chunk", [deltaChunk({ content: "a" }, "length")], [textEvent("a"), finishEvent("length")]],
  [
    "reasoning and text in one chunk",
    [deltaChunk({ reasoning: "a", content: "b" })],
    [reasoningEvent("a"), textEvent("b")],
  ],
  [
    "reasoning in all known fields",
    [
      deltaChunk({ reasoning: "a" }),
      deltaChunk({ reasoning_content: "b", reasoning: "b" }),
      deltaChunk({ thinking: "c" }),
      deltaChunk({
        reasoning_details: [
          { type: "reasoning.text", text: "d" },
          { type: "reasoning.summary", summary: "e" },
        ],
      }),
      deltaChunk({ reasoning_details: [{ type: "reasoning.encrypted", data: "x" }] }),
      deltaChunk({ content: [{ type: "thinking", thinking: [{ type: "text", text: "f" }] }] }),
    ],
    [
      reasoningEvent("a"),
      reasoningEvent("b"),
      reasoningEvent("c"),
      reasoningEvent("de"),
      reasoningEvent(""),
      reasoningEvent("f"),
    ],
  ],
  [
    "content as an array of parts",
    [
      deltaChunk({
        content: [{ type: "thinking", thinking: "a" }, { type: "text", text: "b" }, "c", { type: "image", text: "d" }],
      }),
    ],
    [reasoningEvent("a"), textEvent("bc")],
  ],
  ["a part that is not in an array", [deltaChunk({ content: { type: "text", text: "a" } })], [textEvent("a")]],
  [
    "text in legacy fields",
    [deltaChunk({ text: "a" }), { choices: [{ text: "b" }] }],
    [textEvent("a"), textEvent("b")],
  ],
  ["a refusal", [deltaChunk({ content: null, refusal: "No." })], [textEvent("No.")]],
  [
    "a complete message in a single chunk",
    [messageChunk({ content: "a" }, "stop")],
    [textEvent("a"), finishEvent("stop")],
  ],
  [
    "a message that grows",
    [messageChunk({ content: "a" }), messageChunk({ content: "ab" }), messageChunk({ content: "ab" }, "stop")],
    [textEvent("a"), textEvent("b"), finishEvent("stop")],
  ],
  [
    "a message in several chunks",
    [messageChunk({ content: "Hi " }), messageChunk({ content: "you" })],
    [textEvent("Hi "), textEvent("you")],
  ],
  [
    "a message that repeats the deltas",
    [deltaChunk({ content: "a", reasoning: "r" }), messageChunk({ content: "a", reasoning_content: "r" }, "stop")],
    [reasoningEvent("r"), textEvent("a"), finishEvent("stop")],
  ],
  [
    "an empty delta next to a message",
    [{ choices: [{ delta: { content: "" }, message: { content: "a" }, finish_reason: "stop" }] }],
    [textEvent("a"), finishEvent("stop")],
  ],
  [
    "text after the end",
    [deltaChunk({ content: "a" }, "stop"), deltaChunk({ content: "b" })],
    [textEvent("a"), textEvent("b"), finishEvent("stop")],
  ],
])("maps %s", (_name, payloads, expectedEvents) => {
  expect(mapAll(payloads)).toEqual(expectedEvents as MappedEvent[]);
});

test("fields of the wrong type are ignored without losing text", () => {
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
    { ...deltaChunk({ content: "" }), error: {} },
    { ...deltaChunk({ content: "" }), id: {}, model: 5, created: "x", object: 7 },
    deltaChunk(null),
    deltaChunk({ content: 5 }),
    deltaChunk({ content: true, reasoning: 7, reasoning_content: {}, reasoning_details: "x" }),
    deltaChunk({ content: [5, null, { type: "text", text: 5 }, { type: 7 }] }),
    deltaChunk({ tool_calls: {} }),
    deltaChunk({ tool_calls: "x" }),
    deltaChunk({
      tool_calls: [null, 5, {}, { index: 0 }, { function: {} }, { id: null, function: { name: "", arguments: "" } }],
    }),
    deltaChunk({ content: "" }, 5),
    deltaChunk({ content: "" }, "null"),
    deltaChunk({ content: "" }, ""),
    messageChunk(5),
  ];
  const payloads = [
    deltaChunk({ content: "a" }),
    ...invalidPayloads,
    deltaChunk({ content: "b" }),
    deltaChunk({}, "stop"),
    ...invalidPayloads,
  ];
  expect(mapAll(payloads)).toEqual([textEvent("a"), textEvent("b"), finishEvent("stop")] as MappedEvent[]);
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
  const arbitraryJson = fc.jsonValue({ maxDepth: 3 }).filter((json) => !/error/.test(JSON.stringify(json)));
  const invalidField = fc.tuple(fc.constantFrom(...names, ...choiceNames, ...deltaNames), arbitraryJson);
  const buildChunk = (content: string, fields: [string, unknown][]) => {
    const chunk: Record<string, unknown> = {};
    const choice: Record<string, unknown> = {};
    const deltaFields: Record<string, unknown> = {};
    for (const [name, json] of fields)
      if (name.startsWith("delta.")) deltaFields[name.slice("delta.".length)] = json;
      else (names.includes(name) ? chunk : choice)[name] = json;
    return { ...chunk, choices: [{ ...choice, delta: { ...deltaFields, content } }] };
  };
  fc.assert(
    fc.property(fc.array(invalidField), fc.array(invalidField), (firstFields, secondFields) => {
      const mappedEvents = mapAll([
        buildChunk("a", firstFields),
        buildChunk("b", secondFields),
        deltaChunk({}, "stop"),
        "[DONE]",
      ]);
      expect(mappedEvents.map((mapped) => (mapped.type === "text" ? mapped.text : "")).join("")).toBe("ab");
      expect(mappedEvents.at(-1)?.type).toBe("finish");
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
      expect(mapAll([deltaChunk({ content: "a" }), deltaChunk({}, word)])).toEqual([
        textEvent("a"),
        finishEvent(reason),
      ] as MappedEvent[]);
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
    expect(mapAll([deltaChunk({ content: "a" }, word), "[DONE]"])).toMatchObject([textEvent("a"), retryableError]);
  });

  test("is the first one if a server sends several", () => {
    const expectedEvents = [textEvent("a"), finishEvent("length")] as MappedEvent[];
    expect(mapAll([deltaChunk({ content: "a" }, "length"), deltaChunk({}, "error"), "[DONE]"])).toEqual(expectedEvents);
  });
});

describe("tool calls", () => {
  const call = { function: { name: "f", arguments: '{"a":1}' } };
  const calls = [{ id: expect.stringMatching(/^call_/), name: "f", arguments: '{"a":1}' }];
  const expectedFinish = { type: "finish", reason: "tool_calls", usage: null, toolCalls: calls };

  test.each<[string, unknown[]]>([
    ["in a delta", [deltaChunk({ tool_calls: [call] }), deltaChunk({}, "tool_calls")]],
    ["without an array", [deltaChunk({ tool_calls: call }), deltaChunk({}, "tool_calls")]],
    ["with a different finish reason", [deltaChunk({ tool_calls: [call] }), deltaChunk({}, "stop")]],
    [
      "in legacy fields",
      [
        deltaChunk({ function_call: { name: "f" } }),
        deltaChunk({ function_call: { arguments: '{"a":1}' } }, "function_call"),
      ],
    ],
    ["in a message", [messageChunk({ content: null, tool_calls: [call] }, "tool_calls")]],
    [
      "in deltas, and repeated in a message",
      [deltaChunk({ tool_calls: [call] }), messageChunk({ tool_calls: [call] }, "tool_calls")],
    ],
  ])("are read %s", (_name, payloads) => {
    const mappedEvents = mapAll(payloads);
    expect(mappedEvents.at(-1)).toEqual(expectedFinish as MappedEvent);
    expect(new Set(mappedEvents.slice(0, -1).map(({ type }) => type))).toEqual(new Set(["tool_call"]));
  });

  test("are ignored if they may be truncated", () => {
    expect(mapAll([deltaChunk({ tool_calls: [call] }), deltaChunk({}, "length")]).at(-1)).toEqual(
      finishEvent("length") as MappedEvent,
    );
  });

  test("come after the text of their chunk", () => {
    expect(mapAll([deltaChunk({ content: "a", tool_calls: [call] })]).map(({ type }) => type)).toEqual([
      "text",
      "tool_call",
    ]);
  });
});

describe("usage", () => {
  const openaiUsage = { prompt_tokens: 100, completion_tokens: 40, total_tokens: 140 };
  const mapUsage = (...payloads: unknown[]) => {
    const lastEvent = mapAll([deltaChunk({ content: "a" }), ...payloads, "[DONE]"]).at(-1);
    return lastEvent?.type === "finish" ? lastEvent.usage : "no finish event";
  };
  const usage = { ...noUsage, input_tokens: 100, output_tokens: 40 };

  test.each<[string, unknown[], object]>([
    ["from the last chunk", [deltaChunk({}, "stop"), { choices: [], usage: openaiUsage }], {}],
    ["from the chunk with the finish reason", [{ ...deltaChunk({}, "stop"), usage: openaiUsage }], {}],
    ["from the choice", [{ choices: [{ delta: {}, finish_reason: "stop", usage: openaiUsage }] }], {}],
    ["from Groq's own fields", [{ ...deltaChunk({}, "stop"), x_groq: { usage: openaiUsage } }], {}],
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
      "with reasoning tokens",
      [{ usage: { ...openaiUsage, completion_tokens_details: { reasoning_tokens: 30 } } }],
      { reasoning_tokens: 30 },
    ],
    [
      "with reasoning tokens that only the total includes",
      [{ usage: { ...openaiUsage, total_tokens: 170, completion_tokens_details: { reasoning_tokens: 30 } } }],
      { output_tokens: 70, reasoning_tokens: 30 },
    ],
    [
      "with a larger total and no reasoning count",
      [{ usage: { ...openaiUsage, total_tokens: 170 } }],
      { output_tokens: 70 },
    ],
    ["with a total that is too small", [{ usage: { ...openaiUsage, total_tokens: 20 } }], {}],
    ["with an impossible total", [{ usage: { ...openaiUsage, total_tokens: 1e15 } }], {}],
    ["with an implausible total", [{ usage: { ...openaiUsage, total_tokens: 1_000_000 } }], {}],
    [
      "with a larger total and a reasoning count of zero",
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
      "with details of the wrong type",
      [{ usage: { ...openaiUsage, prompt_tokens_details: { cached_tokens: "9" }, completion_tokens_details: 5 } }],
      {},
    ],
  ])("is read %s", (_name, payloads, expectedFields) => {
    expect(mapUsage(...payloads)).toEqual({ ...usage, ...expectedFields });
  });

  test.each([7.5, 1e15, "7", -1, {}, null, true])("doesn't include a count of %p", (count) => {
    const invalidField = { prompt_tokens: count, completion_tokens: count, total_tokens: count };
    expect(mapUsage({ usage: invalidField })).toBeNull();
    expect(mapUsage({ usage: { ...invalidField, prompt_tokens: 100 } })).toEqual({ ...usage, output_tokens: null });
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
    ["Groq's own field", { ...deltaChunk({}), x_groq: { error: "overloaded" } }],
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
  ])("isn't retried if it is a rejection (%s)", (name, data) => {
    const mappedEvents = mapAll([data, "[DONE]"]);
    expect(mappedEvents).toMatchObject([
      { type: "error", error: { cause: expect.stringMatching(/no\b|invalid model/) } },
    ]);
    if (!/number/.test(name))
      expect(mappedEvents).toMatchObject([{ error: { code: "provider_refused", retryable: false } }]);
  });

  test.each<[string, object]>([
    ["a success code", { code: 0, message: "success" }],
    ["a success name", { code: "Success", message: "" }],
    ["a progress report", { status: "queued", message: "one moment" }],
    ["a progress event", { type: "progress", detail: "30 %" }],
  ])("isn't %s", (_name, fields) => {
    expect(mapAll([fields, { ...deltaChunk({ content: "a" }, "stop"), ...fields }, "[DONE]"])).toEqual([
      textEvent("a"),
      finishEvent("stop"),
    ] as MappedEvent[]);
  });

  test("includes the provider's message in its cause", () => {
    const error = mapAll([{ error: { message: "model is loading", code: "warming_up" } }]).at(0);
    expect(error).toMatchObject({ error: { cause: expect.stringContaining("warming_up: model is loading") } });
  });
});

describe("a JSON document instead of a stream", () => {
  const mapDocument = (document: unknown) => createChatMapper().mapDocument?.(document);

  test.each<[string, unknown, unknown[]]>([
    ["a completion", messageChunk({ role: "assistant", content: "a" }, "stop"), [textEvent("a"), finishEvent("stop")]],
    ["a completion without a finish reason", messageChunk({ content: "a" }), [textEvent("a"), finishEvent("stop")]],
    [
      "a completion in a legacy format",
      { choices: [{ text: "a", finish_reason: "length" }] },
      [textEvent("a"), finishEvent("length")],
    ],
    [
      "a completion with token counts and reasoning",
      {
        ...messageChunk({ content: "a", reasoning_content: "r" }, "stop"),
        usage: { prompt_tokens: 3, completion_tokens: 4 },
      },
      [
        reasoningEvent("r"),
        textEvent("a"),
        { ...finishEvent("stop"), usage: { ...noUsage, input_tokens: 3, output_tokens: 4 } },
      ],
    ],
    [
      "tool calls without indexes",
      messageChunk({
        tool_calls: [
          { id: "a", function: { name: "f", arguments: { x: 1 } } },
          { id: "b", function: { name: "f" } },
        ],
      }),
      [
        { type: "tool_call" },
        {
          ...finishEvent("tool_calls"),
          toolCalls: [
            { id: "a", name: "f", arguments: '{"x":1}' },
            { id: "b", name: "f", arguments: "{}" },
          ],
        },
      ],
    ],
  ])("can be %s", (_name, document, expectedEvents) => {
    expect(mapDocument(document)).toEqual(expectedEvents as MappedEvent[]);
  });

  test("fails if the completion failed", () => {
    expect(mapDocument(messageChunk({ content: null }, "error"))).toMatchObject([retryableError]);
  });

  test.each<[string, unknown]>([
    ["an unrelated document", { status: "ok" }],
    ["a list", []],
    ["a string", "ok"],
  ])("isn't an answer if it is %s", (_name, document) => {
    expect(mapDocument(document)).toEqual([]);
  });
});
