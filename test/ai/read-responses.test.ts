import { describe, expect, test } from "bun:test";
import { createResponsesMapper } from "../../src/ai/providers/openai/read-responses.ts";
import { noUsage } from "../../src/ai/usage.ts";
import { formatEvent, readBody, summarizeAnswer } from "./read-body.ts";

const readAndSummarize = (body: string | string[], connectionError: Error | null = null) =>
  summarizeAnswer(readBody(createResponsesMapper(), body, connectionError));

const typedEvent = (type: string, fields: object = {}) => formatEvent(type, { type, ...fields });
const textDelta = (text: unknown, fields: object = { output_index: 0, content_index: 0 }) =>
  typedEvent("response.output_text.delta", { delta: text, ...fields });
const messageItem = (text: string) => ({ type: "message", content: [{ type: "output_text", text }] });
const completedEvent = (fields: object = {}) =>
  typedEvent("response.completed", { response: { status: "completed", ...fields } });
const callItem = { type: "function_call", call_id: "call_1", name: "look_up", arguments: '{"q":1}' };

describe("an answer from the Responses API", () => {
  test.each<[string, string, object]>([
    ["text in deltas", textDelta("a") + textDelta("b") + completedEvent(), { text: "ab", end: "stop" }],
    ["text only in the last event", completedEvent({ output: [messageItem("ab")] }), { text: "ab", end: "stop" }],
    [
      "text only at the end of its part",
      typedEvent("response.output_text.done", { output_index: 0, content_index: 0, text: "ab" }) + completedEvent(),
      { text: "ab", end: "stop" },
    ],
    [
      "text only in the event that ends its part",
      typedEvent("response.content_part.done", { output_index: 0, content_index: 0, part: { text: "ab" } }) +
        completedEvent(),
      { text: "ab", end: "stop" },
    ],
    [
      "text only at the end of its item",
      typedEvent("response.output_item.done", { output_index: 0, item: messageItem("ab") }) + completedEvent(),
      { text: "ab", end: "stop" },
    ],
    [
      "a second text item without deltas",
      textDelta("ab") +
        typedEvent("response.output_text.done", { output_index: 0, content_index: 0, text: "ab" }) +
        typedEvent("response.output_text.done", { output_index: 1, content_index: 0, text: "cd" }) +
        completedEvent({ output: [messageItem("ab"), messageItem("cd")] }),
      { text: "abcd", end: "stop" },
    ],
    [
      "everything repeated four times, with conflicting indexes",
      textDelta("ab", {}) +
        typedEvent("response.output_text.done", { output_index: 1, content_index: 0, text: "ab" }) +
        typedEvent("response.content_part.done", { output_index: 2, content_index: 1, part: { text: "ab" } }) +
        typedEvent("response.output_item.done", { output_index: 3, item: messageItem("ab") }) +
        completedEvent({ output: [messageItem("ab")] }),
      { text: "ab", end: "stop" },
    ],
    [
      "a refusal without deltas",
      completedEvent({ output: [{ type: "message", content: [{ type: "refusal", refusal: "No." }] }] }),
      { text: "No.", end: "stop" },
    ],
    [
      "types only in the event name",
      formatEvent("response.output_text.delta", { delta: "a" }) + formatEvent("response.completed", {}),
      { text: "a", end: "stop" },
    ],
    [
      "a call only in the last event",
      completedEvent({ output: [callItem] }),
      { end: "tool_calls", calls: ['look_up {"q":1}'] },
    ],
    [
      "a repeated call",
      typedEvent("response.output_item.added", { output_index: 0, item: { ...callItem, arguments: "" } }) +
        typedEvent("response.output_item.done", { output_index: 0, item: callItem }) +
        completedEvent({ output: [callItem, { ...callItem, call_id: "call_2" }] }),
      { end: "tool_calls", calls: ['look_up {"q":1}', 'look_up {"q":1}'] },
    ],
    [
      "two calls with the same index, without ids and arguments",
      typedEvent("response.output_item.done", { output_index: 0, item: { ...callItem, call_id: 1, arguments: null } }) +
        typedEvent("response.output_item.done", { output_index: 0, item: { ...callItem, call_id: 1 } }) +
        completedEvent(),
      { end: "tool_calls", calls: ["look_up {}", 'look_up {"q":1}'] },
    ],
    [
      "a repeated call without ids",
      typedEvent("response.output_item.done", { output_index: 0, item: { ...callItem, call_id: 5 } }) +
        completedEvent({ output: [{ ...callItem, call_id: null }] }),
      { end: "tool_calls", calls: ['look_up {"q":1}'] },
    ],
    [
      "calls that are never completed",
      [callItem, { ...callItem, call_id: "call_2" }]
        .map(
          (item, output_index) =>
            typedEvent("response.output_item.added", { output_index, item: { ...item, arguments: "" } }) +
            typedEvent("response.function_call_arguments.delta", { output_index, delta: '{"q"' }) +
            typedEvent("response.function_call_arguments.delta", { output_index, delta: ":1}" }) +
            typedEvent("response.function_call_arguments.done", { output_index, arguments: '{"q":1}' }),
        )
        .join("") + completedEvent({ output: [] }),
      { end: "tool_calls", calls: ['look_up {"q":1}', 'look_up {"q":1}'] },
    ],
    [
      "arguments without a call",
      typedEvent("response.function_call_arguments.delta", { delta: "{" }) + textDelta("a") + completedEvent(),
      { text: "a", end: "stop" },
    ],
    ["text only in output_text", completedEvent({ output: [], output_text: "ab" }), { text: "ab", end: "stop" }],
    [
      "text in output and in output_text",
      completedEvent({ output: [messageItem("ab")], output_text: "ab" }),
      { text: "ab", end: "stop" },
    ],
    [
      "reasoning without deltas",
      typedEvent("response.output_item.done", { item: { type: "reasoning", summary: [{ text: "hm" }] } }) +
        textDelta("a") +
        completedEvent(),
      { reasoning: "hm", text: "a", end: "stop" },
    ],
    [
      "reasoning in deltas that is repeated at the end",
      typedEvent("response.reasoning_summary_text.delta", { delta: "hm" }) +
        typedEvent("response.output_item.done", { item: { type: "reasoning", summary: [{ text: "hm" }] } }) +
        textDelta("a") +
        completedEvent(),
      { reasoning: "hm", text: "a", end: "stop" },
    ],
    [
      "an outdated status in the last event",
      textDelta("a") + completedEvent({ status: "in_progress" }),
      { text: "a", end: "stop" },
    ],
    [
      "response.done as its end",
      textDelta("a") + typedEvent("response.done", { response: { status: "completed" } }),
      { text: "a", end: "stop" },
    ],
    [
      "a truncated answer",
      textDelta("a") +
        typedEvent("response.incomplete", { response: { incomplete_details: { reason: "max_output_tokens" } } }),
      { text: "a", end: "length" },
    ],
    [
      "a last event without its blank line, then a connection that breaks",
      textDelta("a") + completedEvent().trimEnd(),
      { text: "a", end: "stop" },
    ],
    [
      "fields of the wrong type",
      textDelta("a", { output_index: "x", content_index: {} }) +
        textDelta(null) +
        textDelta(7) +
        formatEvent(null, "[]") +
        formatEvent(null, "7") +
        formatEvent(null, "") +
        typedEvent("response.output_item.added", { item: "x" }) +
        typedEvent("response.output_item.done", { item: 7, output_index: [] }) +
        typedEvent("response.content_part.done", { part: "x" }) +
        typedEvent("response.reasoning_text.delta", { delta: {} }) +
        completedEvent({ output: { a: 1 }, usage: "x", id: 5 }),
      { text: "a", end: "stop", reasoning: "" },
    ],
    [
      "the whole response as one event",
      formatEvent(null, { object: "response", status: "completed", output: [messageItem("ab")] }),
      { text: "ab", end: "stop" },
    ],
  ])("is read with %s", (name, body, expected) => {
    const connectionError = name.includes("breaks") ? new Error("reset") : null;
    expect(readAndSummarize(body, connectionError)).toMatchObject(expected);
    // The result is the same if every byte arrives in a separate packet.
    const bytes = [...new TextEncoder().encode(body)].map((byte) => new Uint8Array([byte]));
    expect(summarizeAnswer(readBody(createResponsesMapper(), bytes, connectionError))).toMatchObject(expected);
  });

  test.each<[string, unknown, object]>([
    [
      "with details",
      {
        input_tokens: 9,
        input_tokens_details: { cached_tokens: 4 },
        output_tokens: 5,
        output_tokens_details: { reasoning_tokens: 3 },
      },
      { input_tokens: 9, cached_input_tokens: 4, output_tokens: 5, reasoning_tokens: 3 },
    ],
    ["without integers", { input_tokens: 7.5, output_tokens: "7" }, { input_tokens: null, output_tokens: null }],
    ["with impossible numbers", { input_tokens: 1e15, output_tokens: -1 }, { input_tokens: null, output_tokens: null }],
    ["with one invalid number", { input_tokens: {}, output_tokens: 5 }, { input_tokens: null, output_tokens: 5 }],
    [
      "with invalid details",
      { input_tokens: 3, input_tokens_details: { cached_tokens: 9 }, output_tokens: 5, output_tokens_details: [] },
      { input_tokens: 3, cached_input_tokens: 3, output_tokens: 5, reasoning_tokens: 0 },
    ],
  ])("has the usage that is reported %s", (_name, usage, expected) => {
    expect(readAndSummarize(textDelta("a") + completedEvent({ usage }))).toMatchObject({
      end: "stop",
      usage: { ...noUsage, ...expected },
    });
  });
});

describe("an answer from the Responses API fails", () => {
  test.each<[string, string, object]>([
    ["without an end marker", textDelta("a"), { text: "a", end: "provider_unavailable" }],
    ["with only [DONE]", formatEvent(null, "[DONE]"), { end: "provider_unavailable" }],
    [
      "with a failed response",
      textDelta("a") +
        typedEvent("response.failed", { response: { error: { code: "rate_limit_exceeded", message: "x" } } }),
      { text: "a", end: "provider_rate_limited" },
    ],
    [
      "with a failed response without details",
      typedEvent("response.failed", { response: null }),
      { end: "provider_unavailable" },
    ],
    [
      "with an error with a nested code",
      typedEvent("error", { error: { error: { code: "context_length_exceeded" } } }),
      { end: "provider_refused" },
    ],
    [
      "with an error event with top-level fields",
      typedEvent("error", { code: "invalid_api_key", message: null }),
      { end: "provider_unauthorized" },
    ],
    [
      "with an error without an event name",
      formatEvent(null, { error: { code: "429" } }),
      { end: "provider_rate_limited" },
    ],
    ["with an error object", formatEvent(null, { object: "error", code: 404 }), { end: "provider_refused" }],
    [
      "with an error event with a string",
      formatEvent("error", "rate limit exceeded"),
      { end: "provider_rate_limited" },
    ],
    ["with an error event without data", "event: error\n\n", { end: "provider_unavailable" }],
    [
      "with an error between the events",
      `${textDelta("a")}{"error":{"code":"402"}}\n`,
      { text: "a", end: "provider_rate_limited" },
    ],
    ["with the field `error`", 'error: {"code": 401, "message": "no"}\n\n', { end: "provider_unauthorized" }],
    ["with a string in the field `error`", "error: overloaded\n", { end: "provider_unavailable" }],
    [
      "with an unknown status",
      textDelta("a") + completedEvent({ status: "expired" }),
      { text: "a", end: "provider_unavailable" },
    ],
    [
      "with an error in a completed response",
      completedEvent({ error: { code: 401 } }),
      { end: "provider_unauthorized" },
    ],
    [
      "with an event type that is a property of every object",
      formatEvent("constructor", {}),
      { end: "provider_unavailable" },
    ],
    ["with a cancelled response", typedEvent("response.cancelled", { response: {} }), { end: "provider_unavailable" }],
    [
      "with an unknown reason for an incomplete response",
      textDelta("a") +
        typedEvent("response.incomplete", { response: { incomplete_details: { reason: "interrupted" } } }),
      { text: "a", end: "provider_unavailable" },
    ],
    ["with invalid JSON", formatEvent(null, '{"type":'), { end: "SyntaxError" }],
  ])("%s", (_name, body, expected) => {
    expect(readAndSummarize(body)).toMatchObject(expected);
  });

  test("but reports its usage", () => {
    const usage = { input_tokens: 8, output_tokens: 2 };
    const [usageEvent] = readBody(createResponsesMapper(), typedEvent("response.failed", { response: { usage } }));
    expect(usageEvent).toEqual({ type: "usage", usage: { ...noUsage, ...usage } });
  });
});

describe("a JSON document from the Responses API", () => {
  test.each<[string, unknown, object]>([
    [
      "an answer",
      {
        object: "response",
        status: "completed",
        error: null,
        output: [{ type: "reasoning", summary: [{ text: "hm" }] }, messageItem("ab"), callItem],
        usage: { input_tokens: 3, output_tokens: 4 },
      },
      {
        text: "ab",
        reasoning: "hm",
        end: "tool_calls",
        calls: ['look_up {"q":1}'],
        usage: { ...noUsage, input_tokens: 3, output_tokens: 4 },
      },
    ],
    [
      "a truncated answer",
      { status: "incomplete", incomplete_details: { reason: "content_filter" }, output: [messageItem("ab")] },
      { text: "ab", end: "content_filter" },
    ],
    ["a failed response", { status: "failed", error: { code: "server_error" } }, { end: "provider_unavailable" }],
    ["a running response", { status: "in_progress", output: [] }, { end: "provider_unavailable" }],
    ["an error", { error: { message: "x", code: "model_not_found" } }, { end: "provider_refused" }],
    ["an error in an array", [{ error: { code: 429 } }], { end: "provider_rate_limited" }],
    ["an unrelated document", { hello: "world" }, { end: "UnexpectedResponseError" }],
  ])("can be %s", (_name, document, expected) => {
    for (const text of [JSON.stringify(document), `\ufeff\n ${JSON.stringify(document, null, 2)}\n`])
      expect(readAndSummarize(text)).toMatchObject(expected);
  });
});
