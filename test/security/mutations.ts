import fc, { type Arbitrary } from "fast-check";

/** Unusual values that clients could send instead of valid ones. */
export const unusualValues: Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    0,
    -0,
    -1,
    0.5,
    2 ** 31,
    2 ** 53,
    Number.MAX_VALUE,
    Number.MIN_VALUE,
    "",
    " ",
    "\u0000",
    "a\u0000b",
    "\ud800",
    "\udfff\ud800",
    "\ufeff",
    "\u202e\u200d\u2028",
    "\u001b[31m",
    "👩‍👩‍👧‍👦".repeat(20),
    `e${"\u0301".repeat(100)}`,
    "'; drop table users; --",
    "<script>alert(1)</script>",
    "../../../../etc/passwd",
    "%00%ff%u0000",
    "{{user.display_name}}{{",
    "1e999",
    "NaN",
    "9".repeat(400),
    "x".repeat(100_000),
    "ß".repeat(10_000),
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "9999-12-31T23:59:59.999Z",
    "-271821-04-20T00:00:00Z",
    "2026-02-31T25:61:61Z",
  ),
  // Values that incorrect code could treat as something other than data.
  fc.constantFrom<unknown>(
    [],
    {},
    [[]],
    { toString: 1, valueOf: null, toJSON: {} },
    { constructor: { prototype: { polluted: true } } },
    { length: 1e9 },
  ),
  fc.string({ unit: "binary", maxLength: 60 }),
  fc.double(),
  fc.maxSafeInteger(),
  fc.bigInt().map(Number),
  fc.jsonValue({ maxDepth: 3 }),
  fc.array(fc.constant(null), { maxLength: 300 }),
  fc.integer({ min: 1, max: 60 }).map(createNested),
);

function createNested(depth: number): unknown {
  let value: unknown = depth % 2 ? [] : {};
  for (let level = 0; level < depth; level += 1) value = level % 2 ? [value] : { a: value };
  return value;
}

/** Creates valid values, valid values with one to three changes, and unusual values. */
export function mutate(valid: Arbitrary<unknown>): Arbitrary<unknown> {
  const change = fc.record({
    index: fc.nat(1_000),
    kind: fc.constantFrom("replace", "replace", "delete", "add", "wrap"),
    value: unusualValues,
  });
  return fc.oneof(
    { weight: 5, arbitrary: valid },
    {
      weight: 7,
      arbitrary: fc
        .tuple(valid, fc.array(change, { minLength: 1, maxLength: 3 }))
        .map(([value, changes]) => changes.reduce(applyChange, value)),
    },
    { weight: 1, arbitrary: unusualValues },
  );
}

type Change = { index: number; kind: string; value: unknown };

function applyChange(root: unknown, { index, kind, value }: Change): unknown {
  const copy: unknown = structuredClone(root);
  const properties = listProperties(copy);
  const property = properties[index % Math.max(1, properties.length)];
  if (!property) return value;
  const { parent, key } = property;
  if (kind === "delete") delete parent[key];
  else if (kind === "add") parent[String(index)] = value;
  else parent[key] = kind === "wrap" ? [parent[key]] : value;
  return copy;
}

type Property = { parent: Record<string, unknown>; key: string };

function listProperties(value: unknown): Property[] {
  if (typeof value !== "object" || value === null) return [];
  const parent = value as Record<string, unknown>;
  return Object.keys(parent).flatMap((key) => [{ parent, key }, ...listProperties(parent[key])]);
}

/** Serializes values as JSON, and corrupts some of the results. */
export function serializeAndCorrupt(value: Arbitrary<unknown>): Arbitrary<Uint8Array<ArrayBuffer>> {
  const text = value.map((valid) => JSON.stringify(valid) ?? "");
  const position = fc.nat(1_000);
  const createBytes = (arbitrary: Arbitrary<string>) =>
    arbitrary.map((corrupted) => new TextEncoder().encode(corrupted));
  return fc.oneof(
    { weight: 20, arbitrary: createBytes(text) },
    {
      weight: 1,
      arbitrary: createBytes(fc.tuple(text, position).map(([valid, end]) => valid.slice(0, end % (valid.length + 1)))),
    },
    { weight: 1, arbitrary: createBytes(text.map((valid) => `\ufeff${valid} `)) },
    { weight: 1, arbitrary: createBytes(text.map((valid) => valid.replace(/^\{/, '{"__proto__":{"a":1},"a":1e999,'))) },
    { weight: 1, arbitrary: createBytes(text.map((valid) => valid.replace(/^\{"(\w+)":/, '{"$1":1,"$1":'))) },
    { weight: 1, arbitrary: createBytes(position.map((depth) => "[".repeat(depth * 20) + "]".repeat(depth * 20))) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }).map((raw) => new Uint8Array(raw)) },
  );
}
