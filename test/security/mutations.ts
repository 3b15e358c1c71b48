import fc, { type Arbitrary } from "fast-check";

/** Values that clients send by mistake or on purpose, instead of valid ones. */
export const oddities: Arbitrary<unknown> = fc.oneof(
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
  // Objects that careless code treats as more than data.
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
  fc.integer({ min: 1, max: 60 }).map(nest),
);

function nest(depth: number): unknown {
  let value: unknown = depth % 2 ? [] : {};
  for (let level = 0; level < depth; level += 1) value = level % 2 ? [value] : { a: value };
  return value;
}

/** A valid value, or the same with one to three faults. */
export function mutate(valid: Arbitrary<unknown>): Arbitrary<unknown> {
  const change = fc.record({
    at: fc.nat(1_000),
    how: fc.constantFrom("swap", "swap", "drop", "add", "wrap"),
    what: oddities,
  });
  return fc.oneof(
    { weight: 5, arbitrary: valid },
    {
      weight: 7,
      arbitrary: fc
        .tuple(valid, fc.array(change, { minLength: 1, maxLength: 3 }))
        .map(([value, changes]) => changes.reduce(apply, value)),
    },
    { weight: 1, arbitrary: oddities },
  );
}

type Change = { at: number; how: string; what: unknown };

function apply(root: unknown, { at, how, what }: Change): unknown {
  const copy: unknown = structuredClone(root);
  const places = listPlaces(copy);
  const place = places[at % Math.max(1, places.length)];
  if (!place) return what;
  const { holder, key } = place;
  if (how === "drop") delete holder[key];
  else if (how === "add") holder[String(at)] = what;
  else holder[key] = how === "wrap" ? [holder[key]] : what;
  return copy;
}

type Place = { holder: Record<string, unknown>; key: string };

function listPlaces(value: unknown): Place[] {
  if (typeof value !== "object" || value === null) return [];
  const holder = value as Record<string, unknown>;
  return Object.keys(holder).flatMap((key) => [{ holder, key }, ...listPlaces(holder[key])]);
}

/** JSON as sent: sometimes not quite JSON. */
export function corrupt(value: Arbitrary<unknown>): Arbitrary<Uint8Array<ArrayBuffer>> {
  const text = value.map((valid) => JSON.stringify(valid) ?? "");
  const at = fc.nat(1_000);
  const bytes = (arbitrary: Arbitrary<string>) => arbitrary.map((plain) => new TextEncoder().encode(plain));
  return fc.oneof(
    { weight: 20, arbitrary: bytes(text) },
    { weight: 1, arbitrary: bytes(fc.tuple(text, at).map(([valid, cut]) => valid.slice(0, cut % (valid.length + 1)))) },
    { weight: 1, arbitrary: bytes(text.map((valid) => `\ufeff${valid} `)) },
    { weight: 1, arbitrary: bytes(text.map((valid) => valid.replace(/^\{/, '{"__proto__":{"a":1},"a":1e999,'))) },
    { weight: 1, arbitrary: bytes(text.map((valid) => valid.replace(/^\{"(\w+)":/, '{"$1":1,"$1":'))) },
    { weight: 1, arbitrary: bytes(at.map((depth) => "[".repeat(depth * 20) + "]".repeat(depth * 20))) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }).map((raw) => new Uint8Array(raw)) },
  );
}
