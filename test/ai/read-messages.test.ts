import { describe, expect, test } from "bun:test";
import { createMessagesMapper } from "../../src/ai/providers/anthropic/read-messages.ts";
import { noUsage } from "../../src/ai/usage.ts";
import { formatEvent, readBody, summarizeAnswer } from "./read-body.ts";

const readAndSummarize = (body: string, connectionError: Error | null = null) =>
  summarizeAnswer(readBody(createMessagesMapper(), body, connectionError));

const typedEvent = (type: string, fields: object = {}) => formatEvent(type, { type, ...fields });
const messageStart = (usage: unknown = {}, fields: object = {}) =>
  typedEvent("message_start", { message: { usage, ...fields } });
const blockStart = (content_block: unknown, index: unknown = 0) =>
  typedEvent("content_block_start", { index, content_block });
const blockDelta = (fields: unknown, index: unknown = 0) => typedEvent("content_block_delta", { index, delta: fields });
const textDelta = (value: unknown) => blockDelta({ type: "text_delta", text: value });
const stopEvent = (stop_reason: unknown, usage: unknown = {}) =>
  typedEvent("message_delta", { delta: { stop_reason }, usage });
const messageStop = typedEvent("message_stop");
const toolUse = { type: "tool_use", id: "toolu_1", name: "look_up", input: {} };

describe("an answer from the Messages API", () => {
  test.each<[string, string, object]>([
    [
      "text in deltas",
      messageStart() +
        blockStart({ type: "text", text: "" }) +
        textDelta("a") +
        textDelta("b") +
        stopEvent("end_turn") +
        messageStop,
      { text: "ab", end: "stop" },
    ],
    [
      "text at the start of its block",
      messageStart() + blockStart({ type: "text", text: "a" }) + textDelta("b") + stopEvent("end_turn") + messageStop,
      { text: "ab", end: "stop" },
    ],
    [
      "text at the start of the message",
      messageStart(
        {},
        {
          content: [
            { type: "thinking", thinking: "hm" },
            { type: "text", text: "a" },
          ],
        },
      ) +
        stopEvent("end_turn") +
        messageStop,
      { text: "a", reasoning: "hm", end: "stop" },
    ],
    [
      "types only in the event name",
      formatEvent("content_block_delta", { delta: { type: "text_delta", text: "a" } }) +
        formatEvent("message_stop", {}),
      { text: "a", end: "stop" },
    ],
    [
      "thinking, its signature, and the answer",
      blockStart({ type: "thinking", thinking: "" }) +
        blockDelta({ type: "thinking_delta", thinking: "hm" }) +
        blockDelta({ type: "signature_delta", signature: "abc" }) +
        textDelta("a") +
        stopEvent("end_turn") +
        messageStop,
      { text: "a", reasoning: "hm", end: "stop" },
    ],
    [
      "a call in chunks",
      blockStart(toolUse) +
        blockDelta({ type: "input_json_delta", partial_json: "" }) +
        blockDelta({ type: "input_json_delta", partial_json: '{"q"' }) +
        blockDelta({ type: "input_json_delta", partial_json: null }) +
        blockDelta({ type: "input_json_delta", partial_json: ":1}" }) +
        stopEvent("tool_use") +
        messageStop,
      { end: "tool_calls", calls: ['look_up {"q":1}'] },
    ],
    [
      "a call with its complete input",
      blockStart({ ...toolUse, input: { q: 1 } }) + stopEvent("tool_use") + messageStop,
      { end: "tool_calls", calls: ['look_up {"q":1}'] },
    ],
    [
      "a call that repeats its input in deltas",
      blockStart({ ...toolUse, input: { q: 1 } }) +
        blockDelta({ type: "input_json_delta", partial_json: '{"q":1}' }) +
        stopEvent("end_turn") +
        messageStop,
      { end: "tool_calls", calls: ['look_up {"q":1}'] },
    ],
    [
      "two calls with the same index",
      blockStart(toolUse) +
        blockDelta({ type: "input_json_delta", partial_json: '{"q":1}' }) +
        blockStart({ ...toolUse, id: 7, input: { q: 2 } }) +
        blockStart({ ...toolUse, id: null }) +
        blockDelta({ type: "input_json_delta", partial_json: '{"q":3}' }) +
        stopEvent("tool_use") +
        messageStop,
      { end: "tool_calls", calls: ['look_up {"q":1}', 'look_up {"q":2}', 'look_up {"q":3}'] },
    ],
    [
      "a call whose input is an object",
      blockStart(toolUse) +
        blockDelta({ type: "input_json_delta", partial_json: { q: 1 } }) +
        stopEvent("tool_use") +
        messageStop,
      { end: "tool_calls", calls: ['look_up {"q":1}'] },
    ],
    ["a truncated call", blockStart(toolUse) + stopEvent("max_tokens") + messageStop, { end: "length", calls: [] }],
    ["a refusal", textDelta("No.") + stopEvent("refusal") + messageStop, { text: "No.", end: "content_filter" }],
    [
      "a full context window",
      textDelta("a") + stopEvent("model_context_window_exceeded") + messageStop,
      { text: "a", end: "length" },
    ],
    [
      "a different protocol's stop reason",
      textDelta("a") + stopEvent("STOP") + messageStop,
      { text: "a", end: "stop" },
    ],
    [
      "the string null as a stop reason",
      textDelta("a") + stopEvent("null") + stopEvent("end_turn") + messageStop,
      { text: "a", end: "stop" },
    ],
    ["a connection that breaks after the end", textDelta("a") + stopEvent("end_turn"), { text: "a", end: "stop" }],
    ["a body that ends without an end marker", textDelta("a") + stopEvent("end_turn"), { text: "a", end: "stop" }],
    [
      "an error after the end",
      textDelta("a") + stopEvent("end_turn") + typedEvent("error", { error: {} }),
      { text: "a", end: "stop" },
    ],
    [
      "invalid JSON after the end",
      textDelta("a") + stopEvent("end_turn") + formatEvent(null, '{"type"'),
      { text: "a", end: "stop" },
    ],
    [
      "a connection that breaks halfway through an event after the end",
      `${textDelta("a") + stopEvent("end_turn")}data: {"ty`,
      { text: "a", end: "stop" },
    ],
    [
      "[DONE] at the end",
      textDelta("a") + stopEvent("end_turn") + formatEvent(null, "[DONE]"),
      { text: "a", end: "stop" },
    ],
    [
      "fields of the wrong type",
      messageStart("x", { content: 7, id: [] }) +
        typedEvent("ping", { x: 1 }) +
        formatEvent("ping", "pong") +
        formatEvent("keep-alive", "{") +
        formatEvent(null, " ") +
        formatEvent(null, " [DONE] ") +
        blockStart("x", "y") +
        blockStart({ type: "text", text: 7 }, {}) +
        textDelta("a") +
        textDelta(7) +
        blockDelta("x") +
        blockDelta({ type: "thinking_delta", thinking: 7 }) +
        formatEvent(null, "7") +
        stopEvent(7, []) +
        typedEvent("message_delta", { delta: "x", usage: null }) +
        messageStop,
      { text: "a", end: "stop", usage: null },
    ],
    [
      "the whole message as one event",
      formatEvent(null, { type: "message", content: [{ type: "text", text: "a" }], stop_reason: "end_turn" }),
      { text: "a", end: "stop" },
    ],
  ])("is read despite %s", (name, body, expected) => {
    expect(readAndSummarize(body, name.includes("breaks") ? new Error("reset") : null)).toMatchObject(expected);
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
  ])("has the usage that is reported %s", (_name, startUsage, endUsage, usage) => {
    const body = messageStart(startUsage) + textDelta("a") + stopEvent("end_turn", endUsage) + messageStop;
    expect(readAndSummarize(body)).toMatchObject({ text: "a", end: "stop", usage });
  });

  test("reports its usage before the end, in case the stream breaks", () => {
    const [usage] = readBody(
      createMessagesMapper(),
      messageStart({ input_tokens: 3, output_tokens: 1 }) + textDelta("a"),
    );
    expect(usage).toEqual({ type: "usage", usage: { ...noUsage, input_tokens: 3, output_tokens: 1 } });
  });
});

describe("an answer from the Messages API fails", () => {
  test.each<[string, string, object]>([
    ["without an end marker", messageStart() + textDelta("a"), { text: "a", end: "provider_unavailable" }],
    [
      "with a paused turn",
      textDelta("a") + stopEvent("pause_turn") + messageStop,
      { text: "a", end: "provider_unavailable" },
    ],
    [
      "with a stop reason that is a property of every object",
      textDelta("a") + stopEvent("constructor") + messageStop,
      { end: "provider_unavailable" },
    ],
    [
      "with an unknown stop reason",
      textDelta("a") + stopEvent("aborted") + messageStop,
      { text: "a", end: "provider_unavailable" },
    ],
    [
      "with an error event",
      typedEvent("error", { error: { type: "rate_limit_error" } }),
      { end: "provider_rate_limited" },
    ],
    [
      "with an error event without a type",
      formatEvent("error", { error: { type: "invalid_request_error" } }),
      { end: "provider_refused" },
    ],
    [
      "with an error without an event name",
      formatEvent(null, { error: { type: "authentication_error" } }),
      { end: "provider_unauthorized" },
    ],
    ["with an error that is a string", formatEvent(null, { error: "overloaded" }), { end: "provider_unavailable" }],
    ["with an error object", formatEvent(null, { object: "error", code: 413 }), { end: "provider_refused" }],
    ["with the field `error`", 'error: {"error": {"code": "402"}}\n\n', { end: "provider_rate_limited" }],
    ["with an error event without JSON", formatEvent("error", "<h1>down</h1>"), { end: "provider_unavailable" }],
  ])("%s", (_name, body, expected) => {
    expect(readAndSummarize(body)).toMatchObject(expected);
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
          { ...toolUse, input: { q: 1 } },
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
    expect(readAndSummarize(JSON.stringify(document))).toMatchObject(expected);
  });
});
