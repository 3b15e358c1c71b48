import { expect, test } from "bun:test";
import { type TSchema, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { Closed, Line, Nullable, OneOf, QueryInteger, Text, Timestamp, Uuid } from "../../src/lib/schema.ts";
import { listSchemaErrors } from "../../src/lib/schema-errors.ts";

const Part = Closed({ type: Type.Literal("text"), text: Type.String() });
const Input = Closed({
  title: Type.Optional(Line({ minLength: 1, maxLength: 5 })),
  content: Type.Optional(Nullable(Text({ minLength: 2, maxLength: 5 }))),
  kind: Type.Optional(OneOf(["direct", "group"])),
  rating: Type.Optional(Type.Union([Type.Literal(1), Type.Literal(-1)])),
  count: Type.Optional(Type.Integer({ minimum: 0, maximum: 9 })),
  share: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
  is_default: Type.Optional(Type.Boolean()),
  id: Type.Optional(Uuid()),
  at: Type.Optional(Timestamp()),
  names: Type.Optional(Type.Array(OneOf(["a", "b"]), { minItems: 1, maxItems: 2, uniqueItems: true })),
  parts: Type.Optional(
    Type.Array(Type.Object({ content: Type.Union([Type.String(), Type.Array(Part, { maxItems: 3 })]) })),
  ),
  free: Type.Optional(Type.Object({})),
  tools: Type.Optional(Type.Array(Type.String({ pattern: "^[a-zA-Z0-9_-]{1,64}$" }))),
  bias: Type.Optional(Type.String({ pattern: "^x$" })),
});
const listErrors = (schema: TSchema, value: unknown) => listSchemaErrors(Value.Errors(schema, value), "body");

const scenarios: [unknown, string, string][] = [
  [undefined, "#", "Send a JSON body."],
  [null, "#", "Send a JSON body."],
  [[], "#", "The body must be a JSON object."],
  [{ color: "red" }, "#/color", "color is not a known field."],
  [{ title: 1 }, "#/title", "title must be text."],
  [{ title: "" }, "#/title", "title must not be empty."],
  [{ title: "abcdef" }, "#/title", "title may have at most 5 characters."],
  [{ title: "a\nb" }, "#/title", "title must be one line without control characters."],
  [{ content: 1 }, "#/content", "content must be text or null."],
  [{ content: "a" }, "#/content", "content must have at least 2 characters."],
  [{ kind: "secret" }, "#/kind", "kind must be one of direct, group."],
  [{ rating: 2 }, "#/rating", "rating must be one of 1, -1."],
  [{ count: 1.5 }, "#/count", "count must be a whole number."],
  [{ count: -1 }, "#/count", "count must be 0 or more."],
  [{ count: 10 }, "#/count", "count must be 9 or less."],
  [{ share: 0 }, "#/share", "share must be more than 0."],
  [{ is_default: "yes" }, "#/is_default", "is_default must be true or false."],
  [{ id: "x" }, "#/id", "id must be a UUID."],
  [{ at: "today" }, "#/at", "at must be an RFC 3339 time."],
  [{ names: "a" }, "#/names", "names must be a list."],
  [{ names: [] }, "#/names", "names must not be empty."],
  [{ names: ["a", "b", "a"] }, "#/names", "names may have at most 2 entries."],
  [{ names: ["a", "a"] }, "#/names", "names must not have the same entry twice."],
  [{ names: ["c"] }, "#/names/0", "names[0] must be one of a, b."],
  [{ tools: ["a b"] }, "#/tools/0", "tools[0] must have 1 to 64 letters (a-z, A-Z), digits, _ and -."],
  [{ bias: "y" }, "#/bias", "bias has an invalid format."],
  [{ parts: [{}] }, "#/parts/0/content", "parts[0].content is required."],
  [{ parts: [{ content: 1 }] }, "#/parts/0/content", "parts[0].content must be text or a list."],
  [{ parts: [{ content: [{ type: "text" }] }] }, "#/parts/0/content/0/text", "parts[0].content[0].text is required."],
  [
    { parts: [{ content: [{ type: "image", text: "" }] }] },
    "#/parts/0/content/0/type",
    "parts[0].content[0].type must be text.",
  ],
  [{ "": 1 }, "#/", '"" is not a known field.'],
  [{ "7": 1 }, "#/7", "7 is not a known field."],
  [{ "a\n\u202eb": 1 }, "#/a\n\u202eb", '"a\\n\\u{202e}b" is not a known field.'],
  [{ free: [] }, "#/free", "free must be a JSON object."],
];

for (const [value, pointer, detail] of scenarios)
  test(`the error at ${pointer} is "${detail}"`, () => {
    expect(listErrors(Input, value)).toEqual([{ pointer, detail }]);
  });

test("each location is reported once, in a list of limited length", () => {
  expect(listErrors(Closed({ a: Type.String(), b: Type.String() }), {})).toEqual([
    { pointer: "#/a", detail: "a is required." },
    { pointer: "#/b", detail: "b is required." },
  ]);
  const manyFields = Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`field${n}`, n]));
  expect(listErrors(Input, manyFields)).toHaveLength(20);
});

test("the search for errors in a union stops at the maximum number of reported errors", () => {
  const errors = listErrors(Input, { parts: [{ content: Array(300_000).fill({}) }] });
  expect(errors[0]).toEqual({ pointer: "#/parts/0/content", detail: "parts[0].content may have at most 3 entries." });
  expect(errors.length).toBeLessThanOrEqual(20);
});

test("a parameter's pointer is relative to its location", () => {
  const Query = Type.Object({ limit: QueryInteger({ minimum: 1, maximum: 9 }) });
  expect(listSchemaErrors(Value.Errors(Query, { limit: "x" }), "query")).toEqual([
    { pointer: "#/query/limit", detail: "limit must be a whole number, 1 to 9." },
  ]);
});
