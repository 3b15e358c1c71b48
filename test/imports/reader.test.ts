import { expect, test } from "bun:test";
import fc from "fast-check";
import { chatgpt } from "../../src/modules/imports/chatgpt.ts";
import { claude } from "../../src/modules/imports/claude.ts";
import { createConversationBuilder, type ReadResult } from "../../src/modules/imports/conversation-builder.ts";
import { readConversations } from "../../src/modules/imports/file-reader.ts";
import { ImportError } from "../../src/modules/imports/import-error.ts";
import { createJsonReader } from "../../src/modules/imports/json-reader.ts";
import { runSteps } from "../../src/modules/imports/steps.ts";
import { createChatGpt, createClaude } from "../support/imports.ts";

/** The conversations read from a file in these chunks, without our generated ids. */
function read(chunks: Uint8Array[], format = chatgpt): { found: unknown[]; error: unknown } {
  const builder = createConversationBuilder(format, format === chatgpt ? claude : chatgpt, Date.UTC(2026, 0, 1));
  const found: unknown[] = [];
  const reader = createJsonReader({
    onNode: builder.addNode,
    onConversation: (value) => void found.push(runSteps(builder.finish(value))),
    onOversized: () => void found.push(runSteps(builder.skipUnreadable())),
  });
  const shown = () => JSON.parse(JSON.stringify(found), (name, value) => (/^(id|parent)$/.test(name) ? null : value));
  try {
    for (const chunk of chunks) reader.write(chunk);
    reader.end();
    return { found: shown(), error: null };
  } catch (error) {
    return { found: shown(), error };
  }
}

const file = [
  createChatGpt("a", { "Grüße 😀": {}, 'Line\nbreak \\ " \u2028': {}, c: { at: null } }),
  createChatGpt(
    "b",
    { Only: { model: "gpt-4o" } },
    { extra: [[1, -2.5e3, true, false, null], { deep: { deeper: [] } }] },
  ),
  {},
];
const bytes = new TextEncoder().encode(JSON.stringify(file, null, 1));

test("the result does not depend on the chunks, even if they split a character", () => {
  const whole = read([bytes]);
  expect(whole.error).toBeNull();
  expect(whole.found).toHaveLength(3);
  fc.assert(
    fc.property(fc.array(fc.nat({ max: bytes.length }), { maxLength: 20 }), (cuts) => {
      const places = [0, ...cuts.sort((a, b) => a - b), bytes.length];
      expect(read(places.slice(1).map((end, at) => bytes.subarray(places[at], end)))).toEqual(whole);
    }),
  );
  expect(read([...bytes].map((byte) => new Uint8Array([byte])))).toEqual(whole);
});

test("a corrupt file is read as far as possible, or fails with a reason", () => {
  const claudes = new TextEncoder().encode(
    JSON.stringify([createClaude("x", ["One", "Two"]), createClaude("y", ["Three"])]),
  );
  fc.assert(
    fc.property(
      fc.constantFrom(bytes, claudes),
      fc.array(fc.record({ at: fc.nat(), byte: fc.integer({ min: 0, max: 255 }) }), { minLength: 1, maxLength: 5 }),
      fc.nat(),
      (original, changes, end) => {
        const broken = original.slice(0, end % 2 === 0 ? undefined : end % original.length);
        for (const { at, byte } of changes) if (broken.length > 0) broken[at % broken.length] = byte;
        for (const format of [chatgpt, claude]) {
          const { error } = read([broken], format);
          if (error !== null) expect(error).toBeInstanceOf(ImportError);
        }
      },
    ),
    { numRuns: 300 },
  );
});

test("any JSON is read without an exception", () => {
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
            expect(read([new TextEncoder().encode(JSON.stringify(json))], format).error).toBeNull();
      },
    ),
  );
});

test("an endless string does not fill the memory", () => {
  const chunk = new TextEncoder().encode(`x${"y".repeat(1024 * 1024 - 1)}`);
  const { error } = read([new TextEncoder().encode('[{"title":"'), ...Array.from({ length: 40 }, () => chunk)]);
  expect(error).toMatchObject({ code: "too_large" });
});

test("a file with too many entries is read up to the limit", async () => {
  const builder = createConversationBuilder(chatgpt, claude, Date.UTC(2026, 0, 1));
  const pieces = async function* () {
    yield new TextEncoder().encode(JSON.stringify(Array.from({ length: 5_000 }, () => 1)));
  };
  const found: ReadResult[] = [];
  const readAll = async () => {
    for await (const entry of readConversations(pieces(), builder, 1, 1_000)) found.push(entry);
  };
  expect(await readAll().catch((error: ImportError) => error.code)).toBe("too_large");
  expect(found).toHaveLength(1_000);
});
