import { describe, expect, test } from "bun:test";
import { createMessagesMapper } from "../../src/ai/providers/anthropic/read-messages.ts";
import { createChatMapper } from "../../src/ai/providers/compatible/map-chunks.ts";
import { createResponsesMapper } from "../../src/ai/providers/openai/read-responses.ts";
import { BrokenStreamError, EVENT_BYTES_MAX } from "../../src/ai/transport/event-stream.ts";
import { readBody, summarizeAnswer } from "./read-body.ts";

const createChunk = (delta: object, finish_reason: string | null = null) => ({
  choices: [{ index: 0, delta, finish_reason }],
});
const chatEvents = [
  { object: "chat.completion.chunk", choices: [] },
  createChunk({ role: "assistant", content: "" }),
  createChunk({ content: 'a "} ' }),
  createChunk({ content: "ü" }),
  createChunk({}, "stop"),
  { choices: [], usage: { prompt_tokens: 3, completion_tokens: 4 } },
];
const messagesEvents = [
  { type: "message_start", message: { content: [] } },
  { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: 'a "} ' } },
  { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "ü" } },
  { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { input_tokens: 3, output_tokens: 4 } },
  { type: "message_stop" },
];
const responsesEvents = [
  { type: "response.created", response: { status: "in_progress" } },
  { type: "response.output_text.delta", delta: 'a "} ' },
  { type: "response.output_text.delta", delta: "ü" },
  { type: "response.completed", response: { usage: { input_tokens: 3, output_tokens: 4 } } },
];
const formatLines = (events: object[]) => events.map((event) => `${JSON.stringify(event)}\n`).join("");

describe.each([
  ["Chat Completions", createChatMapper, chatEvents],
  ["the Messages API", createMessagesMapper, messagesEvents],
  ["the Responses API", createResponsesMapper, responsesEvents],
] as const)("events of %s as JSON lines", (_name, createMapper, events) => {
  const body = formatLines([...events]);
  const answer = { text: 'a "} ü', end: "stop", usage: { input_tokens: 3, output_tokens: 4 } };

  test.each<[string, Iterable<string | Uint8Array>]>([
    ["in one packet", [body]],
    ["with one line per packet", body.split(/(?<=\n)/)],
    ["with one byte per packet", [...new TextEncoder().encode(body)].map((byte) => Uint8Array.of(byte))],
    ["without line breaks", [body.replaceAll("\n", "")]],
    ["with line breaks within objects", [events.map((event) => JSON.stringify(event, null, 2)).join("\r\n\r\n")]],
  ])("are read %s", (_how, packets) => {
    expect(summarizeAnswer(readBody(createMapper(), packets))).toMatchObject(answer);
  });

  test("cause an error if the connection breaks before the end", () => {
    const truncatedBody = formatLines(events.slice(0, -3));
    expect(summarizeAnswer(readBody(createMapper(), truncatedBody, new BrokenStreamError("reset")))).toMatchObject({
      end: "BrokenStreamError",
    });
    expect(summarizeAnswer(readBody(createMapper(), truncatedBody))).toMatchObject({ end: "provider_unavailable" });
  });

  test("end in an error if an error follows some text", () => {
    const failedEvents = [
      ...events.slice(0, -3),
      { type: "error", error: { message: "no", code: "context_length_exceeded" } },
    ];
    expect(summarizeAnswer(readBody(createMapper(), formatLines(failedEvents)))).toMatchObject({
      end: "provider_refused",
    });
  });
});

test("[DONE] ends a response of JSON lines", () => {
  const body = `${formatLines([createChunk({ content: "a" })])}[DONE]\n`;
  expect(summarizeAnswer(readBody(createChatMapper(), body))).toMatchObject({ text: "a", end: "stop" });
});

test("an endless line fails at the limit", () => {
  const block = "x".repeat(1024 * 1024);
  let bytes = 0;
  function* generateForever() {
    yield `${formatLines([createChunk({ content: "a" })])}{"`;
    for (;;) {
      bytes += block.length;
      yield block;
    }
  }
  expect(readBody(createChatMapper(), generateForever()).at(-1)).toBeInstanceOf(BrokenStreamError);
  expect(bytes).toBeLessThan(EVENT_BYTES_MAX + 2 * block.length);
});

test("JSON lines of a different protocol aren't an answer", () => {
  const lines = [
    { message: { content: "a" }, done: false },
    { message: { content: "b" }, done: true },
  ];
  expect(summarizeAnswer(readBody(createChatMapper(), formatLines(lines)))).toMatchObject({
    text: "",
    end: "UnexpectedResponseError",
  });
});
