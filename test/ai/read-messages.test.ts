import { describe, expect, test } from "bun:test";
import { createMessagesMapper } from "../../src/ai/providers/anthropic/read-messages.ts";
import { noUsage } from "../../src/ai/usage.ts";
import { event, readBody, summarize } from "./read-body.ts";

const read = (body: string, connectionError: Error | null = null) =>
  summarize(readBody(createMessagesMapper(), body, connectionError));

const typedEvent = (type: string, fields: object = {}) => event(type, { type, ...fields });
const start = (usage: unknown = {}, fields: object = {}) =>
  typedEvent("message_start", { message: { usage, ...fields } });
const block = (content_block: unknown, index: unknown = 0) =>
  typedEvent("content_block_start", { index, content_block });
const delta = (fields: unknown, index: unknown = 0) => typedEvent("content_block_delta", { index, delta: fields });
const text = (value: unknown) => delta({ type: "text_delta", text: value });
const stop = (stop_reason: unknown, usage: unknown = {}) =>
  typedEvent("message_delta", { delta: { stop_reason }, usage });
const end = typedEvent("message_stop");
const tool = { type: "tool_use", id: "toolu_1", name: "look_up", input: {} };

describe("an answer from the Messages API", () => {
  test.each<[string, string, object]>([
    [
      "texts in deltas",
      start() + block({ type: "text", text: "" }) + text("a") + text("b") + stop("end_turn") + end,
      { text: "ab", end: "stop" },
    ],
    [
      "text at the start of its block",
      start() + block({ type: "text", text: "a" }) + text("b") + stop("end_turn") + end,
      { text: "ab", end: "stop" },
    ],
    [
      "text at the start of the message",
      start(
        {},
        {
          content: [
            { type: "thinking", thinking: "hm" },
            { type: "text", text: "a" },
          ],
        },
      ) +
        stop("end_turn") +
        end,
      { text: "a", reasoning: "hm", end: "stop" },
    ],
    [
      "types only in the event name",
      event("content_block_delta", { delta: { type: "text_delta", text: "a" } }) + event("message_stop", {}),
      { text: "a", end: "stop" },
    ],
    [
      "thinking, its signature, and the answer",
      block({ type: "thinking", thinking: "" }) +
        delta({ type: "thinking_delta", thinking: "hm" }) +
        delta({ type: "signature_delta", signature: "abc" }) +
        text("a") +
        stop("end_turn") +
        end,
      { text: "a", reasoning: "hm", end: "stop" },
    ],
    [
      "a call in pieces",
      block(tool) +
        delta({ type: "input_json_delta", partial_json: "" }) +
        delta({ type: "input_json_delta", partial_json: '{"q"' }) +
        delta({ type: "input_json_delta", partial_json: null }) +
        delta({ type: "input_json_delta", partial_json: ":1}" }) +
        stop("tool_use") +
        end,
      { end: "tool_calls", calls: ['look_up {"q":1}'] },
    ],
    [
      "a call with its complete input",
      block({ ...tool, input: { q: 1 } }) + stop("tool_use") + end,
      { end: "tool_calls", calls: ['look_up {"q":1}'] },
    ],
    [
      "a call that repeats its input in deltas",
      block({ ...tool, input: { q: 1 } }) +
        delta({ type: "input_json_delta", partial_json: '{"q":1}' }) +
        stop("end_turn") +
        end,
      { end: "tool_calls", calls: ['look_up {"q":1}'] },
    ],
    [
      "two calls with the same index",
      block(tool) +
        delta({ type: "input_json_delta", partial_json: '{"q":1}' }) +
        block({ ...tool, id: 7, input: { q: 2 } }) +
        block({ ...tool, id: null }) +
        delta({ type: "input_json_delta", partial_json: '{"q":3}' }) +
        stop("tool_use") +
        end,
      { end: "tool_calls", calls: ['look_up {"q":1}', 'look_up {"q":2}', 'look_up {"q":3}'] },
    ],
    [
      "a call whose input is an object",
      block(tool) + delta({ type: "input_json_delta", partial_json: { q: 1 } }) + stop("tool_use") + end,
      { end: "tool_calls", calls: ['look_up {"q":1}'] },
    ],
    ["a truncated call", block(tool) + stop("max_tokens") + end, { end: "length", calls: [] }],
    ["a refusal", text("No.") + stop("refusal") + end, { text: "No.", end: "content_filter" }],
    ["a full context window", text("a") + stop("model_context_window_exceeded") + end, { text: "a", end: "length" }],
    ["another protocol's stop reason", text("a") + stop("STOP") + end, { text: "a", end: "stop" }],
    ["the string null as a stop reason", text("a") + stop("null") + stop("end_turn") + end, { text: "a", end: "stop" }],
    ["a connection that breaks after the end", text("a") + stop("end_turn"), { text: "a", end: "stop" }],
    ["a body that ends without an end marker", text("a") + stop("end_turn"), { text: "a", end: "stop" }],
    [
      "an error after the end",
      text("a") + stop("end_turn") + typedEvent("error", { error: {} }),
      { text: "a", end: "stop" },
    ],
    ["invalid JSON after the end", text("a") + stop("end_turn") + event(null, '{"type"'), { text: "a", end: "stop" }],
    [
      "half an event after the end, and the connection breaks",
      `${text("a") + stop("end_turn")}data: {"ty`,
      { text: "a", end: "stop" },
    ],
    ["[DONE] at the end", text("a") + stop("end_turn") + event(null, "[DONE]"), { text: "a", end: "stop" }],
    [
      "fields of wrong types",
      start("x", { content: 7, id: [] }) +
        typedEvent("ping", { x: 1 }) +
        event("ping", "pong") +
        event("keep-alive", "{") +
        event(null, " ") +
        event(null, " [DONE] ") +
        block("x", "y") +
        block({ type: "text", text: 7 }, {}) +
        text("a") +
        text(7) +
        delta("x") +
        delta({ type: "thinking_delta", thinking: 7 }) +
        event(null, "7") +
        stop(7, []) +
        typedEvent("message_delta", { delta: "x", usage: null }) +
        end,
      { text: "a", end: "stop", usage: null },
    ],
    [
      "the whole message as one event",
      event(null, { type: "message", content: [{ type: "text", text: "a" }], stop_reason: "end_turn" }),
      { text: "a", end: "stop" },
    ],
  ])("is read with %s", (name, body, expected) => {
    expect(read(body, name.includes("breaks") ? new Error("reset") : null)).toMatchObject(expected);
  });

  const cached = { cache_read_input_tokens: 100, cache_creation_input_tokens: 20 };
  const countedUsage = {
    ...noUsage,
    input_tokens: 123,
    cached_input_tokens: 100,
    cache_write_tokens: 20,
    output_tokens: 9,
  };
  test.each<[string, unknown, unknown, object | null]>([
    ["at the start", { input_tokens: 3, ...cached, output_tokens: 1 }, { output_tokens: 9 }, countedUsage],
    ["at the end", {}, { input_tokens: 3, ...cached, output_tokens: 9 }, countedUsage],
    [
      "at the end, after 0 or null",
      { input_tokens: 0, cache_read_input_tokens: null, output_tokens: 0 },
      { input_tokens: 3, ...cached, output_tokens: 9 },
      countedUsage,
    ],
    [
      "twice",
      { input_tokens: 3, ...cached, output_tokens: 1 },
      { input_tokens: 3, ...cached, output_tokens: 9 },
      countedUsage,
    ],
    [
      "with 0 at the end",
      { input_tokens: 3, ...cached, output_tokens: 9 },
      { input_tokens: 0, output_tokens: 0 },
      countedUsage,
    ],
    [
      "with reasoning",
      { input_tokens: 123, output_tokens: 1 },
      { output_tokens: 9, output_tokens_details: { thinking_tokens: 4 } },
      { ...noUsage, input_tokens: 123, output_tokens: 9, reasoning_tokens: 4 },
    ],
    [
      "with only invalid numbers",
      { input_tokens: 7.5, output_tokens: "7" },
      { input_tokens: -1, output_tokens: 1e15 },
      null,
    ],
    ["without numbers", "x", { input_tokens: {}, output_tokens: [] }, null],
    [
      "with some invalid numbers",
      { input_tokens: {}, ...cached },
      { output_tokens: 9 },
      { ...countedUsage, input_tokens: null },
    ],
  ])("has usage %s", (_name, first, last, usage) => {
    const body = start(first) + text("a") + stop("end_turn", last) + end;
    expect(read(body)).toMatchObject({ text: "a", end: "stop", usage });
  });

  test("reports its usage before the end, in case the stream breaks", () => {
    const [usage] = readBody(createMessagesMapper(), start({ input_tokens: 3, output_tokens: 1 }) + text("a"));
    expect(usage).toEqual({ type: "usage", usage: { ...noUsage, input_tokens: 3, output_tokens: 1 } });
  });
});

describe("an answer from the Messages API fails", () => {
  test.each<[string, string, object]>([
    ["without an end marker", start() + text("a"), { text: "a", end: "provider_unavailable" }],
    ["with a pause", text("a") + stop("pause_turn") + end, { text: "a", end: "provider_unavailable" }],
    [
      "with a stop reason that is a property of every object",
      text("a") + stop("constructor") + end,
      { end: "provider_unavailable" },
    ],
    ["with an unknown stop reason", text("a") + stop("aborted") + end, { text: "a", end: "provider_unavailable" }],
    [
      "with an error event",
      typedEvent("error", { error: { type: "rate_limit_error" } }),
      { end: "provider_rate_limited" },
    ],
    [
      "with an error event without a type",
      event("error", { error: { type: "invalid_request_error" } }),
      { end: "provider_refused" },
    ],
    [
      "with an error without an event name",
      event(null, { error: { type: "authentication_error" } }),
      { end: "provider_unauthorized" },
    ],
    ["with an error that is a string", event(null, { error: "overloaded" }), { end: "provider_unavailable" }],
    ["with an error object", event(null, { object: "error", code: 413 }), { end: "provider_refused" }],
    ["with the field `error`", 'error: {"error": {"code": "402"}}\n\n', { end: "provider_rate_limited" }],
    ["with an error event without JSON", event("error", "<h1>down</h1>"), { end: "provider_unavailable" }],
  ])("%s", (_name, body, expected) => {
    expect(read(body)).toMatchObject(expected);
  });
});

describe("a JSON document from the Messages API", () => {
  const usage = { input_tokens: 3, cache_read_input_tokens: 2, output_tokens: 4 };
  test.each<[string, unknown, object]>([
    [
      "an answer",
      {
        type: "message",
        content: [
          { type: "thinking", thinking: "hm" },
          { type: "text", text: "ab" },
          { ...tool, input: { q: 1 } },
        ],
        stop_reason: "tool_use",
        usage,
      },
      {
        text: "ab",
        reasoning: "hm",
        end: "tool_calls",
        calls: ['look_up {"q":1}'],
        usage: { ...noUsage, input_tokens: 5, cached_input_tokens: 2, output_tokens: 4 },
      },
    ],
    [
      "an answer with a string as its content",
      { content: "ab", stop_reason: "max_tokens" },
      { text: "ab", end: "length" },
    ],
    ["a paused turn", { content: "ab", stop_reason: "pause_turn" }, { text: "ab", end: "provider_unavailable" }],
    ["an error", { type: "error", error: { type: "overloaded_error" } }, { end: "provider_unavailable" }],
    ["an unrelated document", { hello: "world" }, { end: "UnexpectedResponseError" }],
  ])("can be %s", (_name, document, expected) => {
    expect(read(JSON.stringify(document))).toMatchObject(expected);
  });
});
