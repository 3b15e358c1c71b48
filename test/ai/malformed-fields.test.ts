import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createMessagesMapper } from "../../src/ai/providers/anthropic/read-messages.ts";
import { createResponsesMapper } from "../../src/ai/providers/openai/read-responses.ts";
import { event, readBody, summarize } from "./read-body.ts";

/** Any value for any field, and events of any known type that neither end an answer nor are an error. */
const junk = (types: string[], fields: string[]) =>
  fc.record({
    type: fc.constantFrom(...types),
    ...Object.fromEntries(fields.map((field) => [field, fc.jsonValue({ maxDepth: 2 })])),
  });

const kinds = [
  {
    name: "responses",
    create: createResponsesMapper,
    junk: junk(
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
        "response.unheard_of",
      ],
      ["delta", "text", "item", "part", "output_index", "content_index", "response", "sequence_number", "item_id"],
    ),
    text: { type: "response.output_text.delta", output_index: 0, content_index: 0, delta: "Fine." },
    end: (odd: unknown) => [{ type: "response.completed", response: { id: odd, output: odd, usage: odd } }],
  },
  {
    name: "messages",
    create: createMessagesMapper,
    junk: junk(
      ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "ping"],
      ["message", "index", "content_block", "delta", "usage"],
    ),
    text: { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "Fine." } },
    end: (odd: unknown) => [
      { type: "message_delta", delta: { stop_reason: "end_turn", stop_sequence: odd }, usage: odd },
      { type: "message_stop", odd },
    ],
  },
];

describe.each(kinds)("$name", ({ create, junk: junkOf, text, end }) => {
  test("no field of a wrong type fails an answer with text", () => {
    fc.assert(
      fc.property(fc.array(junkOf), fc.array(junkOf), fc.jsonValue(), (before, after, odd) => {
        const body = [...before, text, ...after, ...end(odd)].map((data) => event(null, data)).join("");
        const answer = summarize(readBody(create(), body));
        expect(answer.text).toContain("Fine.");
        expect(answer.end).toBe("stop");
        for (const tokens of Object.values(answer.usage ?? {})) if (tokens !== null) expect(tokens).toBeInteger();
      }),
    );
  });
});
