import { expect, test } from "bun:test";
import fc from "fast-check";
import { chatgpt } from "../../src/modules/imports/chatgpt.ts";
import { claude } from "../../src/modules/imports/claude.ts";
import { createConversationBuilder, type ReadResult } from "../../src/modules/imports/conversation-builder.ts";
import { readConversations } from "../../src/modules/imports/file-reader.ts";
import { ImportError } from "../../src/modules/imports/import-error.ts";
import { createJsonReader } from "../../src/modules/imports/json-reader.ts";
import { runSteps } from "../../src/modules/imports/steps.ts";
import { createChatGptConversation, createClaudeConversation } from "../support/imports.ts";

/** Reads the conversations in the chunks of a file, and removes their generated IDs. */
function readChunks(chunks: Uint8Array[], format = chatgpt): { results: unknown[]; error: unknown } {
  const builder = createConversationBuilder(format, format === chatgpt ? claude : chatgpt, Date.UTC(2026, 0, 1));
  const results: unknown[] = [];
  const reader = createJsonReader({
    onNode: builder.addNode,
    onConversation: (value) => void results.push(runSteps(builder.finish(value))),
    onOversized: () => void results.push(runSteps(builder.skipUnreadable())),
  });
  const getResults = () =>
    JSON.parse(JSON.stringify(results), (name, value) => (/^(id|parent)$/.test(name) ? null : value));
  try {
    for (const chunk of chunks) reader.write(chunk);
    reader.end();
    return { results: getResults(), error: null };
  } catch (error) {
    return { results: getResults(), error };
  }
}

const file = [
  createChatGptConversation("a", { "Grüße 😀": {}, 'Line\nbreak \\ " \u2028': {}, c: { at: null } }),
  createChatGptConversation(
    "b",
    { Only: { model: "gpt-4o" } },
    { extra: [[1, -2.5e3, true, false, null], { deep: { deeper: [] } }] },
  ),
  {},
];
const bytes = new TextEncoder().encode(JSON.stringify(file, null, 1));

test("the result doesn't depend on the chunk boundaries, even if a chunk ends within a character", () => {
  const expected = readChunks([bytes]);
  expect(expected.error).toBeNull();
  expect(expected.results).toHaveLength(3);
  fc.assert(
    fc.property(fc.array(fc.nat({ max: bytes.length }), { maxLength: 20 }), (splits) => {
      const offsets = [0, ...splits.sort((a, b) => a - b), bytes.length];
      expect(readChunks(offsets.slice(1).map((end, index) => bytes.subarray(offsets[index], end)))).toEqual(expected);
    }),
  );
  expect(readChunks([...bytes].map((byte) => new Uint8Array([byte])))).toEqual(expected);
});

test("a corrupt file causes no error other than an ImportError", () => {
  const claudeBytes = new TextEncoder().encode(
    JSON.stringify([createClaudeConversation("x", ["One", "Two"]), createClaudeConversation("y", ["Three"])]),
  );
  fc.assert(
    fc.property(
      fc.constantFrom(bytes, claudeBytes),
      fc.array(fc.record({ offset: fc.nat(), byte: fc.integer({ min: 0, max: 255 }) }), { minLength: 1, maxLength: 5 }),
      fc.nat(),
      (original, changes, end) => {
        const corruptBytes = original.slice(0, end % 2 === 0 ? undefined : end % original.length);
        for (const { offset, byte } of changes)
          if (corruptBytes.length > 0) corruptBytes[offset % corruptBytes.length] = byte;
        for (const format of [chatgpt, claude]) {
          const { error } = readChunks([corruptBytes], format);
          if (error !== null) expect(error).toBeInstanceOf(ImportError);
        }
      },
    ),
    { numRuns: 300 },
  );
});

test("any valid JSON is read without an error", () => {
  fc.assert(
    fc.property(
      fc.jsonValue({ maxDepth: 6 }),
      fc.constantFrom("mapping", "chat_messages", "conversations", "x"),
      (value, name) => {
        for (const json of [
          value,
          [value],
          { [name]: value },
          [{ [name]: value }],
          [{ [name]: { a: value } }],
          [{ [name]: [value] }],
        ])
          for (const format of [chatgpt, claude])
            expect(readChunks([new TextEncoder().encode(JSON.stringify(json))], format).error).toBeNull();
      },
    ),
  );
});

test("a string that would fill the memory is rejected", () => {
  const chunk = new TextEncoder().encode(`x${"y".repeat(1024 * 1024 - 1)}`);
  const { error } = readChunks([new TextEncoder().encode('[{"title":"'), ...Array.from({ length: 40 }, () => chunk)]);
  expect(error).toMatchObject({ code: "too_large" });
});

test("a file with too many entries is read up to the limit", async () => {
  const builder = createConversationBuilder(chatgpt, claude, Date.UTC(2026, 0, 1));
  const chunks = async function* () {
    yield new TextEncoder().encode(JSON.stringify(Array.from({ length: 5_000 }, () => 1)));
  };
  const results: ReadResult[] = [];
  const readAll = async () => {
    for await (const entry of readConversations(chunks(), builder, 1, 1_000)) results.push(entry);
  };
  expect(await readAll().catch((error: ImportError) => error.code)).toBe("too_large");
  expect(results).toHaveLength(1_000);
});
