import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createMessagesMapper } from "../../src/ai/providers/anthropic/read-messages.ts";
import { createResponsesMapper } from "../../src/ai/providers/openai/read-responses.ts";
import { formatEvent, readBody, summarizeAnswer } from "./read-body.ts";

/** Returns a fast-check arbitrary for events of the given types, with random values in the given fields. */
const createArbitraryEvent = (types: string[], fields: string[]) =>
  fc.record({
    type: fc.constantFrom(...types),
    ...Object.fromEntries(fields.map((field) => [field, fc.jsonValue({ maxDepth: 2 })])),
  });

const protocols = [
  {
    name: "responses",
    createMapper: createResponsesMapper,
    arbitraryEvent: createArbitraryEvent(
      [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.output_item.done",
        "response.content_part.added",
        "response.content_part.done",
        "response.output_text.delta",
        "response.output_text.done",
        "response.refusal.done",
        "response.reasoning_text.delta",
        "response.function_call_arguments.delta",
        "response.unknown",
      ],
      ["delta", "text", "item", "part", "output_index", "content_index", "response", "sequence_number", "item_id"],
    ),
    text: { type: "response.output_text.delta", output_index: 0, content_index: 0, delta: "Fine." },
    end: (invalid: unknown) => [
      { type: "response.completed", response: { id: invalid, output: invalid, usage: invalid } },
    ],
  },
  {
    name: "messages",
    createMapper: createMessagesMapper,
    arbitraryEvent: createArbitraryEvent(
      ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "ping"],
      ["message", "index", "content_block", "delta", "usage"],
    ),
    text: { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "Fine." } },
    end: (invalid: unknown) => [
      { type: "message_delta", delta: { stop_reason: "end_turn", stop_sequence: invalid }, usage: invalid },
      { type: "message_stop", odd: invalid },
    ],
  },
];

describe.each(protocols)("$name", ({ createMapper, arbitraryEvent, text, end }) => {
  test("fields of the wrong type don't make an answer that has text fail", () => {
    fc.assert(
      fc.property(fc.array(arbitraryEvent), fc.array(arbitraryEvent), fc.jsonValue(), (before, after, invalid) => {
        const body = [...before, text, ...after, ...end(invalid)].map((data) => formatEvent(null, data)).join("");
        const answer = summarizeAnswer(readBody(createMapper(), body));
        expect(answer.text).toContain("Fine.");
        expect(answer.end).toBe("stop");
        for (const tokens of Object.values(answer.usage ?? {})) if (tokens !== null) expect(tokens).toBeInteger();
      }),
    );
  });
});
