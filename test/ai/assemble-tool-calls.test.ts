import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ToolCallAssembler } from "../../src/ai/providers/compatible/assemble-tool-calls.ts";
import { TOOL_CALLS_MAX } from "../../src/ai/providers/tool-calls.ts";
import { BrokenStreamError } from "../../src/ai/transport/event-stream.ts";

/** Assembles tool calls. Each batch is the `tool_calls` of one delta. Generated ids are returned as null. */
function assemble(...batches: unknown[][]): [id: string | null, name: string, args: string][] {
  const assembler = new ToolCallAssembler();
  for (const batch of batches) assembler.add(batch);
  return assembler.list().map(({ id, name, arguments: text }) => [/^call_.{20}/.test(id) ? null : id, name, text]);
}

/** Abbreviated fields of a delta: its index, id, name and arguments. */
type Fields = { i?: unknown; id?: unknown; n?: unknown; a?: unknown };

const createDelta = ({ i, id, n, a }: Fields) => ({
  index: i,
  id,
  type: "function",
  function: { name: n, arguments: a },
});
const inSeparateDeltas = (...chunks: Fields[]) => chunks.map((fields) => [createDelta(fields)]);
const inOneDelta = (...chunks: Fields[]) => [chunks.map(createDelta)];

const paris = '{"city":"Paris"}';
const rome = '{"city":"Rome"}';

test.each<[string, unknown[][], [string | null, string, string][]]>([
  [
    "two calls with two indexes, their chunks interleaved",
    inSeparateDeltas(
      { i: 0, id: "a", n: "f", a: "" },
      { i: 1, id: "b", n: "g", a: '{"x"' },
      { i: 0, a: paris },
      { i: 1, a: ":1}" },
    ),
    [
      ["a", "f", paris],
      ["b", "g", '{"x":1}'],
    ],
  ],
  [
    "two calls with the same index, distinguished by their ids",
    inSeparateDeltas(
      { i: 0, id: "a", n: "f" },
      { i: 0, id: "b", n: "g" },
      { i: 0, id: "a", a: paris },
      { i: 0, id: "b", a: rome },
    ),
    [
      ["a", "f", paris],
      ["b", "g", rome],
    ],
  ],
  [
    "a call with null arguments before and after the actual arguments",
    inSeparateDeltas({ i: 0, id: "a", n: "f", a: null }, { i: 0, a: paris }, { i: 0, a: null }),
    [["a", "f", paris]],
  ],
  ["a call with only null arguments", inSeparateDeltas({ i: 0, id: "a", n: "f", a: null }), [["a", "f", "{}"]]],
  [
    "a call with only the string null as arguments",
    inSeparateDeltas({ i: 0, id: "a", n: "f", a: "null" }),
    [["a", "f", "{}"]],
  ],
  [
    "a null within the arguments, in a separate chunk",
    inSeparateDeltas({ i: 0, n: "f", a: '{"a":' }, { i: 0, a: "null" }, { i: 0, a: "}" }),
    [[null, "f", '{"a":null}']],
  ],
  [
    "a different name with the same index, without ids",
    inSeparateDeltas({ i: 0, n: "f", a: '{"a":' }, { i: 0, a: "1}" }, { i: 0, n: "g", a: "{}" }),
    [
      [null, "f", '{"a":1}'],
      [null, "g", "{}"],
    ],
  ],
  [
    "a different name before any arguments",
    inSeparateDeltas({ i: 0, n: "f" }, { i: 0, n: "g" }),
    [
      [null, "f", "{}"],
      [null, "g", "{}"],
    ],
  ],
  [
    "the same name after a complete object",
    inSeparateDeltas({ i: 0, n: "f", a: paris }, { i: 0, n: "f", a: rome }),
    [
      [null, "f", paris],
      [null, "f", rome],
    ],
  ],
  [
    "the same call twice, without ids",
    inSeparateDeltas({ i: 0, n: "f", a: paris }, { i: 0, n: "f", a: paris }),
    [
      [null, "f", paris],
      [null, "f", paris],
    ],
  ],
  [
    "the same name in each chunk",
    inSeparateDeltas({ i: 0, n: "f", a: '{"city"' }, { i: 0, n: "f", a: ':"Paris"}' }, { i: 0, n: "f", a: "" }),
    [[null, "f", paris]],
  ],
  [
    "a call without a name after a complete object",
    inSeparateDeltas({ i: 0, n: "f", a: paris }, { i: 0, a: '{"city":' }, { i: 0, a: '"Rome"}' }),
    [
      [null, "f", paris],
      [null, "f", rome],
    ],
  ],
  [
    "two argument objects in one chunk",
    inSeparateDeltas({ i: 0, n: "f", a: paris + rome }),
    [
      [null, "f", paris],
      [null, "f", rome],
    ],
  ],
  [
    "two calls in one array without indexes",
    inOneDelta({ id: "a", n: "f", a: paris }, { id: "b", n: "f", a: rome }),
    [
      ["a", "f", paris],
      ["b", "f", rome],
    ],
  ],
  [
    "two calls in one array without indexes or ids, in chunks",
    [
      ...inOneDelta({ n: "f", a: '{"city"' }, { n: "f", a: '{"city"' }),
      ...inOneDelta({ a: ':"Paris"}' }, { a: ':"Rome"}' }),
    ],
    [
      [null, "f", paris],
      [null, "f", rome],
    ],
  ],
  [
    "two calls without arguments in one array, with the same index",
    inOneDelta({ i: 0, n: "f" }, { i: 0, n: "f" }),
    [
      [null, "f", "{}"],
      [null, "f", "{}"],
    ],
  ],
  [
    "the chunks of one call in one array, with its name and id in each",
    inOneDelta(
      { i: 0, id: "a", n: "f", a: "" },
      { i: 0, id: "a", n: "f", a: '{"city":' },
      { i: 0, id: "a", n: "f", a: '"Paris"}' },
    ),
    [["a", "f", paris]],
  ],
  [
    "two calls without indexes, one after the other",
    inSeparateDeltas({ id: "a", n: "f", a: '{"city":' }, { a: '"Paris"}' }, { id: "b", n: "f", a: "" }, { a: rome }),
    [
      ["a", "f", paris],
      ["b", "f", rome],
    ],
  ],
  [
    "continuations whose name and id are empty or the string null",
    inSeparateDeltas(
      { i: 0, id: "a", n: "f", a: "" },
      { i: 0, id: "null", n: "null", a: '{"city"' },
      { i: 0, id: "", n: "", a: ':"Paris"}' },
    ),
    [["a", "f", paris]],
  ],
  ["arguments as an object", inSeparateDeltas({ i: 0, id: "a", n: "f", a: { city: "Paris" } }), [["a", "f", paris]]],
  [
    "ids that change from chunk to chunk",
    inSeparateDeltas(
      { i: 0, id: "a", n: "f", a: "" },
      { i: 0, id: "b", a: '{"city":' },
      { i: 0, id: "c", a: '"Paris"}' },
      { i: 0, id: "d", a: "" },
    ),
    [["a", "f", paris]],
  ],
  [
    "ids that change, with a name in each chunk",
    inSeparateDeltas(
      { i: 0, id: "a", n: "f", a: "" },
      { i: 0, id: "b", n: "f", a: '{"city":' },
      { i: 0, id: "c", n: "f", a: '"Paris"}' },
      { i: 0, id: "d", n: "f", a: "" },
    ),
    [["a", "f", paris]],
  ],
  [
    "a different id after a complete object",
    inSeparateDeltas({ i: 0, id: "a", n: "f", a: paris }, { i: 0, id: "b", a: rome }),
    [
      ["a", "f", paris],
      ["b", "f", rome],
    ],
  ],
  [
    "two calls of one function without arguments",
    inSeparateDeltas({ i: 0, id: "a", n: "f", a: "" }, { i: 0, id: "b", n: "f", a: "" }),
    [
      ["a", "f", "{}"],
      ["b", "f", "{}"],
    ],
  ],
  [
    "two calls with the same id, giving the second call a new id",
    inSeparateDeltas({ i: 0, id: "a", n: "f", a: paris }, { i: 0, id: "a", n: "f", a: rome }),
    [
      ["a", "f", paris],
      [null, "f", rome],
    ],
  ],
  [
    "a call that is repeated completely after its chunks",
    inSeparateDeltas(
      { i: 0, id: "a", n: "f", a: '{"city":' },
      { i: 0, a: '"Paris"}' },
      { i: 0, id: "a", n: "f", a: paris },
    ),
    [["a", "f", paris]],
  ],
  [
    "an empty object as a placeholder",
    inSeparateDeltas({ i: 0, id: "a", n: "f", a: {} }, { i: 0, a: '{"city":' }, { i: 0, a: '"Paris"}' }),
    [["a", "f", paris]],
  ],
  [
    "a call with an extra bracket",
    inSeparateDeltas({ i: 0, n: "f", a: paris }, { i: 0, a: "}" }),
    [[null, "f", paris]],
  ],
  [
    "an index that counts the chunks",
    inSeparateDeltas({ i: 0, id: "a", n: "f", a: '{"city":' }, { i: 1, a: '"Paris"' }, { i: 2, a: "}" }),
    [["a", "f", paris]],
  ],
  [
    "indexes as strings",
    inSeparateDeltas({ i: "0", n: "f", a: "" }, { i: "1", n: "f", a: "" }, { i: "0", a: paris }, { i: "1", a: rome }),
    [
      [null, "f", paris],
      [null, "f", rome],
    ],
  ],
  [
    "a call with invalid indexes and ids",
    inSeparateDeltas({ i: {}, id: 5, n: "f", a: '{"city":' }, { i: null, id: {}, n: [], a: '"Paris"}' }),
    [[null, "f", paris]],
  ],
  [
    "brackets and quotes in strings",
    inSeparateDeltas({ i: 0, n: "f", a: '{"a":"}\\"{' }, { i: 0, n: "f", a: '}"}' }, { i: 0, n: "f", a: "{}" }),
    [
      [null, "f", '{"a":"}\\"{}"}'],
      [null, "f", "{}"],
    ],
  ],
  [
    "invalid JSON as arguments",
    inSeparateDeltas({ i: 0, id: "a", n: "f", a: "Par" }, { i: 0, a: "is" }),
    [["a", "f", "Paris"]],
  ],
  [
    "a name that arrives after the id",
    inSeparateDeltas({ i: 0, id: "a" }, { i: 0, n: "f" }, { i: 0, a: paris }),
    [["a", "f", paris]],
  ],
  ["a call after invalid entries", [[null, "f", 5], [createDelta({ i: 0, n: "f", a: paris })]], [[null, "f", paris]]],
])("assembles %s", (_name, batches, calls) => {
  expect(assemble(...batches)).toEqual(calls);
});

test("too many argument objects in one chunk cause an error", () => {
  const assembler = new ToolCallAssembler();
  const text = Array.from({ length: TOOL_CALLS_MAX + 1 }, (_, number) => JSON.stringify({ number })).join("");
  expect(() => assembler.add([createDelta({ i: 0, n: "f", a: text })])).toThrow(BrokenStreamError);
});

test("many small chunks are assembled in linear time", () => {
  const text = JSON.stringify({ text: "x".repeat(200_000) });
  const assembler = new ToolCallAssembler();
  const startedMs = performance.now();
  assembler.add([createDelta({ i: 0, n: "f", a: "" })]);
  for (const character of text) assembler.add([createDelta({ i: 0, n: "f", a: character })]);
  expect(performance.now() - startedMs).toBeLessThan(10_000);
  expect(assembler.list()).toMatchObject([{ name: "f", arguments: text }]);
});

type Call = { id: string; name: string; args: string };

/** The ways in which known servers send a call with its arguments split into `chunks`. */
const styles: Record<string, (call: Call, chunks: string[], index: number) => Fields[]> = {
  "as OpenAI does": ({ id, name }, chunks, i) => [{ i, id, n: name, a: "" }, ...chunks.map((a) => ({ i, a }))],
  "with nulls": ({ id, name }, chunks, i) => [
    { i, id, n: name, a: null },
    ...chunks.map((a) => ({ i, id: null, n: null, a })),
    { i, id: null, n: null, a: null },
  ],
  "with the same index": ({ id, name }, chunks) => [{ i: 0, id, n: name, a: "" }, ...chunks.map((a) => ({ i: 0, a }))],
  "with the same index, without ids": ({ name }, [first, ...others]) => [
    { i: 0, n: name, a: first },
    ...others.map((a) => ({ i: 0, n: "null", a })),
  ],
  "with a name in each chunk": ({ name }, chunks) => chunks.map((a) => ({ i: 0, n: name, a })),
  "without indexes": ({ id, name }, chunks) => [{ id, n: name, a: "" }, ...chunks.map((a) => ({ id: "", n: "", a }))],
  "without indexes or ids": ({ name }, [first, ...others]) => [{ n: name, a: first }, ...others.map((a) => ({ a }))],
  "with ids that change": ({ id, name }, [first, ...others], i) => [
    { i, id, n: name, a: first },
    ...others.map((a, number) => ({ i, id: `${id}-${number}`, a })),
  ],
  "as whole objects": ({ id, name, args }) => [{ i: 0, id, n: name, a: JSON.parse(args) as unknown }],
  "with an index that counts the chunks": ({ id, name }, chunks, i) => [
    { i: i * 1_000, id, n: name, a: "" },
    ...chunks.map((a, number) => ({ i: i * 1_000 + number + 1, a })),
  ],
};

const arbitraryCall = fc.record({
  name: fc.constantFrom("f", "g"),
  args: fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 }), { minKeys: 1 }).map((value) => JSON.stringify(value)),
  cuts: fc.array(fc.nat(), { maxLength: 5 }),
});

/** Splits a string at the given indexes. Each index is taken modulo the string's length. */
function splitAt(text: string, cuts: number[]): string[] {
  const cutIndexes = [0, ...cuts.map((cut) => cut % text.length), text.length].sort((a, b) => a - b);
  return cutIndexes
    .slice(1)
    .map((end, index) => text.slice(cutIndexes[index], end))
    .filter((chunk) => chunk !== "");
}

describe("calls are assembled correctly when a server sends them", () => {
  test.each(Object.keys(styles))("%s", (style) => {
    fc.assert(
      fc.property(
        fc.array(arbitraryCall, { minLength: 1, maxLength: 4 }),
        fc.boolean(),
        (calls, shouldCombineChunks) => {
          const chunks = calls.flatMap(
            ({ name, args, cuts }, index) =>
              styles[style]?.({ id: `id-${index}`, name, args }, splitAt(args, cuts), index) ?? [],
          );
          // Some proxies put all chunks into one array. Without indexes, these would be separate calls.
          const areInOneArray = shouldCombineChunks && chunks.every(({ i }) => i !== undefined);
          const assembled = assemble(...(areInOneArray ? inOneDelta(...chunks) : inSeparateDeltas(...chunks)));
          expect(assembled.map(([, name, args]) => [name, args])).toEqual(calls.map(({ name, args }) => [name, args]));
        },
      ),
    );
  });
});
