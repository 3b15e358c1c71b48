import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ToolCallJoiner } from "../../src/ai/providers/compatible/join-tool-calls.ts";
import { TOOL_CALLS_MAX } from "../../src/ai/providers/tool-calls.ts";
import { BrokenStreamError } from "../../src/ai/transport/event-stream.ts";

/** Each batch is the `tool_calls` of one delta. Generated ids count as null. */
function join(...batches: unknown[][]): [id: string | null, name: string, args: string][] {
  const joiner = new ToolCallJoiner();
  for (const batch of batches) joiner.add(batch);
  return joiner.list().map(({ id, name, arguments: text }) => [/^call_.{20}/.test(id) ? null : id, name, text]);
}

type Parts = { i?: unknown; id?: unknown; n?: unknown; a?: unknown };

const piece = ({ i, id, n, a }: Parts) => ({ index: i, id, type: "function", function: { name: n, arguments: a } });
const each = (...pieces: Parts[]) => pieces.map((parts) => [piece(parts)]);
const together = (...pieces: Parts[]) => [pieces.map(piece)];

const paris = '{"city":"Paris"}';
const rome = '{"city":"Rome"}';

test.each<[string, unknown[][], [string | null, string, string][]]>([
  [
    "two calls with two indexes, their pieces interleaved",
    each(
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
    each({ i: 0, id: "a", n: "f" }, { i: 0, id: "b", n: "g" }, { i: 0, id: "a", a: paris }, { i: 0, id: "b", a: rome }),
    [
      ["a", "f", paris],
      ["b", "g", rome],
    ],
  ],
  [
    "null arguments, before and after",
    each({ i: 0, id: "a", n: "f", a: null }, { i: 0, a: paris }, { i: 0, a: null }),
    [["a", "f", paris]],
  ],
  ["only null arguments", each({ i: 0, id: "a", n: "f", a: null }), [["a", "f", "{}"]]],
  ["only null arguments, as a string", each({ i: 0, id: "a", n: "f", a: "null" }), [["a", "f", "{}"]]],
  [
    "a null within the arguments, as a separate piece",
    each({ i: 0, n: "f", a: '{"a":' }, { i: 0, a: "null" }, { i: 0, a: "}" }),
    [[null, "f", '{"a":null}']],
  ],
  [
    "another name with the same index, without ids",
    each({ i: 0, n: "f", a: '{"a":' }, { i: 0, a: "1}" }, { i: 0, n: "g", a: "{}" }),
    [
      [null, "f", '{"a":1}'],
      [null, "g", "{}"],
    ],
  ],
  [
    "another name before any arguments",
    each({ i: 0, n: "f" }, { i: 0, n: "g" }),
    [
      [null, "f", "{}"],
      [null, "g", "{}"],
    ],
  ],
  [
    "the same name after a complete object",
    each({ i: 0, n: "f", a: paris }, { i: 0, n: "f", a: rome }),
    [
      [null, "f", paris],
      [null, "f", rome],
    ],
  ],
  [
    "the same call twice, without ids",
    each({ i: 0, n: "f", a: paris }, { i: 0, n: "f", a: paris }),
    [
      [null, "f", paris],
      [null, "f", paris],
    ],
  ],
  [
    "the same name in each piece",
    each({ i: 0, n: "f", a: '{"city"' }, { i: 0, n: "f", a: ':"Paris"}' }, { i: 0, n: "f", a: "" }),
    [[null, "f", paris]],
  ],
  [
    "an object first, then no name",
    each({ i: 0, n: "f", a: paris }, { i: 0, a: '{"city":' }, { i: 0, a: '"Rome"}' }),
    [
      [null, "f", paris],
      [null, "f", rome],
    ],
  ],
  [
    "two objects in one piece",
    each({ i: 0, n: "f", a: paris + rome }),
    [
      [null, "f", paris],
      [null, "f", rome],
    ],
  ],
  [
    "one array without indexes",
    together({ id: "a", n: "f", a: paris }, { id: "b", n: "f", a: rome }),
    [
      ["a", "f", paris],
      ["b", "f", rome],
    ],
  ],
  [
    "one array without indexes or ids, in pieces",
    [
      ...together({ n: "f", a: '{"city"' }, { n: "f", a: '{"city"' }),
      ...together({ a: ':"Paris"}' }, { a: ':"Rome"}' }),
    ],
    [
      [null, "f", paris],
      [null, "f", rome],
    ],
  ],
  [
    "one array with one index, of calls without arguments",
    together({ i: 0, n: "f" }, { i: 0, n: "f" }),
    [
      [null, "f", "{}"],
      [null, "f", "{}"],
    ],
  ],
  [
    "the pieces of one call in one array, with its name and id in each",
    together(
      { i: 0, id: "a", n: "f", a: "" },
      { i: 0, id: "a", n: "f", a: '{"city":' },
      { i: 0, id: "a", n: "f", a: '"Paris"}' },
    ),
    [["a", "f", paris]],
  ],
  [
    "no indexes, one call after another",
    each({ id: "a", n: "f", a: '{"city":' }, { a: '"Paris"}' }, { id: "b", n: "f", a: "" }, { a: rome }),
    [
      ["a", "f", paris],
      ["b", "f", rome],
    ],
  ],
  [
    "names and ids of continuations as the string null, or empty",
    each(
      { i: 0, id: "a", n: "f", a: "" },
      { i: 0, id: "null", n: "null", a: '{"city"' },
      { i: 0, id: "", n: "", a: ':"Paris"}' },
    ),
    [["a", "f", paris]],
  ],
  ["arguments as an object", each({ i: 0, id: "a", n: "f", a: { city: "Paris" } }), [["a", "f", paris]]],
  [
    "ids that change from piece to piece",
    each(
      { i: 0, id: "a", n: "f", a: "" },
      { i: 0, id: "b", a: '{"city":' },
      { i: 0, id: "c", a: '"Paris"}' },
      { i: 0, id: "d", a: "" },
    ),
    [["a", "f", paris]],
  ],
  [
    "ids that change, with a name in each piece",
    each(
      { i: 0, id: "a", n: "f", a: "" },
      { i: 0, id: "b", n: "f", a: '{"city":' },
      { i: 0, id: "c", n: "f", a: '"Paris"}' },
      { i: 0, id: "d", n: "f", a: "" },
    ),
    [["a", "f", paris]],
  ],
  [
    "another id after a complete object",
    each({ i: 0, id: "a", n: "f", a: paris }, { i: 0, id: "b", a: rome }),
    [
      ["a", "f", paris],
      ["b", "f", rome],
    ],
  ],
  [
    "two calls of one function without arguments",
    each({ i: 0, id: "a", n: "f", a: "" }, { i: 0, id: "b", n: "f", a: "" }),
    [
      ["a", "f", "{}"],
      ["b", "f", "{}"],
    ],
  ],
  [
    "one id for two calls: each gets its own",
    each({ i: 0, id: "a", n: "f", a: paris }, { i: 0, id: "a", n: "f", a: rome }),
    [
      ["a", "f", paris],
      [null, "f", rome],
    ],
  ],
  [
    "the whole call repeated at its end",
    each({ i: 0, id: "a", n: "f", a: '{"city":' }, { i: 0, a: '"Paris"}' }, { i: 0, id: "a", n: "f", a: paris }),
    [["a", "f", paris]],
  ],
  [
    "an empty object as a placeholder",
    each({ i: 0, id: "a", n: "f", a: {} }, { i: 0, a: '{"city":' }, { i: 0, a: '"Paris"}' }),
    [["a", "f", paris]],
  ],
  ["an extra bracket", each({ i: 0, n: "f", a: paris }, { i: 0, a: "}" }), [[null, "f", paris]]],
  [
    "an index that counts the pieces",
    each({ i: 0, id: "a", n: "f", a: '{"city":' }, { i: 1, a: '"Paris"' }, { i: 2, a: "}" }),
    [["a", "f", paris]],
  ],
  [
    "indexes as strings",
    each({ i: "0", n: "f", a: "" }, { i: "1", n: "f", a: "" }, { i: "0", a: paris }, { i: "1", a: rome }),
    [
      [null, "f", paris],
      [null, "f", rome],
    ],
  ],
  [
    "useless indexes and ids",
    each({ i: {}, id: 5, n: "f", a: '{"city":' }, { i: null, id: {}, n: [], a: '"Paris"}' }),
    [[null, "f", paris]],
  ],
  [
    "brackets and quotes in strings",
    each({ i: 0, n: "f", a: '{"a":"}\\"{' }, { i: 0, n: "f", a: '}"}' }, { i: 0, n: "f", a: "{}" }),
    [
      [null, "f", '{"a":"}\\"{}"}'],
      [null, "f", "{}"],
    ],
  ],
  ["invalid JSON as arguments", each({ i: 0, id: "a", n: "f", a: "Par" }, { i: 0, a: "is" }), [["a", "f", "Paris"]]],
  ["a name that arrives late", each({ i: 0, id: "a" }, { i: 0, n: "f" }, { i: 0, a: paris }), [["a", "f", paris]]],
  ["invalid entries", [[null, "f", 5], [piece({ i: 0, n: "f", a: paris })]], [[null, "f", paris]]],
])("%s", (_name, batches, calls) => {
  expect(join(...batches)).toEqual(calls);
});

test("too many objects in one piece break the stream", () => {
  const joiner = new ToolCallJoiner();
  const text = Array.from({ length: TOOL_CALLS_MAX + 1 }, (_, number) => JSON.stringify({ number })).join("");
  expect(() => joiner.add([piece({ i: 0, n: "f", a: text })])).toThrow(BrokenStreamError);
});

test("many small pieces take time proportional to their characters", () => {
  const text = JSON.stringify({ text: "x".repeat(200_000) });
  const joiner = new ToolCallJoiner();
  const startedMs = performance.now();
  joiner.add([piece({ i: 0, n: "f", a: "" })]);
  for (const character of text) joiner.add([piece({ i: 0, n: "f", a: character })]);
  expect(performance.now() - startedMs).toBeLessThan(10_000);
  expect(joiner.list()).toMatchObject([{ name: "f", arguments: text }]);
});

type Call = { id: string; name: string; args: string };

/** How known servers send a call whose arguments arrive in `pieces`. */
const styles: Record<string, (call: Call, pieces: string[], index: number) => Parts[]> = {
  "as OpenAI does": ({ id, name }, pieces, i) => [{ i, id, n: name, a: "" }, ...pieces.map((a) => ({ i, a }))],
  "with nulls": ({ id, name }, pieces, i) => [
    { i, id, n: name, a: null },
    ...pieces.map((a) => ({ i, id: null, n: null, a })),
    { i, id: null, n: null, a: null },
  ],
  "with the same index": ({ id, name }, pieces) => [{ i: 0, id, n: name, a: "" }, ...pieces.map((a) => ({ i: 0, a }))],
  "with the same index, without ids": ({ name }, [first, ...others]) => [
    { i: 0, n: name, a: first },
    ...others.map((a) => ({ i: 0, n: "null", a })),
  ],
  "with a name in each piece": ({ name }, pieces) => pieces.map((a) => ({ i: 0, n: name, a })),
  "without indexes": ({ id, name }, pieces) => [{ id, n: name, a: "" }, ...pieces.map((a) => ({ id: "", n: "", a }))],
  "without indexes or ids": ({ name }, [first, ...others]) => [{ n: name, a: first }, ...others.map((a) => ({ a }))],
  "with ids that change": ({ id, name }, [first, ...others], i) => [
    { i, id, n: name, a: first },
    ...others.map((a, number) => ({ i, id: `${id}-${number}`, a })),
  ],
  "as whole objects": ({ id, name, args }) => [{ i: 0, id, n: name, a: JSON.parse(args) as unknown }],
  "with an index that counts the pieces": ({ id, name }, pieces, i) => [
    { i: i * 1_000, id, n: name, a: "" },
    ...pieces.map((a, number) => ({ i: i * 1_000 + number + 1, a })),
  ],
};

const callArgument = fc.record({
  name: fc.constantFrom("f", "g"),
  args: fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 }), { minKeys: 1 }).map((value) => JSON.stringify(value)),
  cuts: fc.array(fc.nat(), { maxLength: 5 }),
});

/** Splits at the cuts. A first piece with only the opening bracket is allowed. */
function split(text: string, cuts: number[]): string[] {
  const cutIndexes = [0, ...cuts.map((cut) => cut % text.length), text.length].sort((a, b) => a - b);
  return cutIndexes
    .slice(1)
    .map((end, index) => text.slice(cutIndexes[index], end))
    .filter((cut) => cut !== "");
}

describe("calls are assembled correctly however they are split", () => {
  test.each(Object.keys(styles))("%s", (style) => {
    fc.assert(
      fc.property(fc.array(callArgument, { minLength: 1, maxLength: 4 }), fc.boolean(), (calls, areTogether) => {
        const pieces = calls.flatMap(
          ({ name, args, cuts }, index) =>
            styles[style]?.({ id: `id-${index}`, name, args }, split(args, cuts), index) ?? [],
        );
        // Some proxies put all pieces into one array; without indexes, that has another meaning.
        const isOneArray = areTogether && pieces.every(({ i }) => i !== undefined);
        const joined = join(...(isOneArray ? together(...pieces) : each(...pieces)));
        expect(joined.map(([, name, args]) => [name, args])).toEqual(calls.map(({ name, args }) => [name, args]));
      }),
    );
  });
});
