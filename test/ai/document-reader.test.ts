import { expect, test } from "bun:test";
import { createMessagesMapper } from "../../src/ai/providers/anthropic/read-messages.ts";
import { DOCUMENT_BYTES_MAX } from "../../src/ai/providers/document-reader.ts";
import { BrokenStreamError, EVENT_BYTES_MAX } from "../../src/ai/transport/event-stream.ts";
import { readBody, summarizeAnswer } from "./read-body.ts";

const createDocument = (text: string) => JSON.stringify({ content: [{ type: "text", text }], stop_reason: "end_turn" });

const splitEvery = (text: string, length: number) => text.match(new RegExp(`[^]{1,${length}}`, "g")) ?? [];

test("brackets and quotes in strings don't end the document", () => {
  const text = 'a } ] " \\ \\" { [ \\\\" }';
  for (const packets of [[createDocument(text)], [...createDocument(text)]])
    expect(summarizeAnswer(readBody(createMessagesMapper(), packets))).toMatchObject({ text, end: "stop" });
});

test("a large document below the limit is read quickly", () => {
  const text = "ä".repeat(4_000_000);
  const startedMs = performance.now();
  const answer = summarizeAnswer(readBody(createMessagesMapper(), splitEvery(createDocument(text), 10_000)));
  expect([answer.text === text, answer.end]).toEqual([true, "stop"]);
  expect(performance.now() - startedMs).toBeLessThan(10_000);
});

test("an endless document fails at the limit", () => {
  const block = "x".repeat(1024 * 1024);
  let bytes = 0;
  function* generateForever() {
    yield '{"content":"';
    for (;;) {
      bytes += block.length;
      yield block;
    }
  }
  expect(readBody(createMessagesMapper(), generateForever()).at(-1)).toBeInstanceOf(BrokenStreamError);
  expect(bytes).toBeWithin(DOCUMENT_BYTES_MAX - block.length, DOCUMENT_BYTES_MAX + 2 * block.length);
});

test("endless blank lines fail at the limit", () => {
  const block = " \r\n".repeat(400_000);
  let bytes = 0;
  function* generateForever() {
    for (;;) {
      bytes += block.length;
      yield block;
    }
  }
  expect(readBody(createMessagesMapper(), generateForever()).at(-1)).toBeInstanceOf(BrokenStreamError);
  expect(bytes).toBeLessThan(EVENT_BYTES_MAX + 2 * block.length);
});
