import { expect, test } from "bun:test";
import { type TSchema, Type } from "@sinclair/typebox";
import { Components } from "../../src/http/openapi-schema.ts";
import { Closed, Named, Nullable, OneOf, QueryInteger, Text } from "../../src/lib/schema.ts";

const toJson = (schema: TSchema) => JSON.parse(JSON.stringify(schema));
const mapSchema = (schema: TSchema) => new Components().map(toJson(schema), "in");

const scenarios: [string, TSchema, unknown][] = [
  ["null", Type.Null(), { type: "string", enum: [null], nullable: true }],
  ["a nullable string", Nullable(Type.String()), { type: "string", nullable: true }],
  [
    "a nullable string with a description",
    Nullable(Type.String(), { description: "d" }),
    { type: "string", nullable: true, description: "d" },
  ],
  ["a literal", Type.Literal("a"), { type: "string", enum: ["a"] }],
  ["a union of literals", Type.Union([Type.Literal("a"), Type.Literal("b")]), { type: "string", enum: ["a", "b"] }],
  ["a nullable literal", Nullable(Type.Literal(1)), { type: "number", enum: [1], nullable: true }],
  ["one of several strings", OneOf(["a", "b"]), { type: "string", enum: ["a", "b"] }],
  ["free text", Text({ maxLength: 5 }), { type: "string", maxLength: 5 }],
  ["a number in a query", QueryInteger({ minimum: 1, maximum: 9 }), { type: "integer", minimum: 1, maximum: 9 }],
  ["a union of numbers", Type.Union([Type.Literal(1), Type.Literal(-1)]), { type: "number", enum: [1, -1] }],
  [
    "a number with additional annotations",
    QueryInteger({ minimum: 1, documented: { maximum: 9, default: 5 } }),
    { type: "integer", minimum: 1, maximum: 9, default: 5 },
  ],
  ["an exclusive bound", Type.Number({ exclusiveMinimum: 0 }), { type: "number", minimum: 0, exclusiveMinimum: true }],
  ["a record", Type.Record(Type.String(), Type.Number()), { type: "object", additionalProperties: { type: "number" } }],
  [
    "a union of objects",
    Type.Union([Type.Object({ a: Type.Literal(1) }), Type.String()]),
    {
      anyOf: [
        { type: "object", required: ["a"], properties: { a: { type: "number", enum: [1] } } },
        { type: "string" },
      ],
    },
  ],
  [
    "an object with a property named const",
    Type.Object({ const: Type.String() }),
    {
      type: "object",
      required: ["const"],
      properties: { const: { type: "string" } },
    },
  ],
  ["a string with examples", Type.String({ examples: ["a", "b"] }), { type: "string", example: "a" }],
];

test.each(scenarios)("%s is converted", (_name, schema, expected) => {
  expect(mapSchema(schema)).toEqual(expected as never);
});

test("a named schema is listed once, and referenced wherever it is used", () => {
  const components = new Components();
  const Part = Named("Part", Type.Object({ n: Type.Integer() }));
  const Whole = Named("Whole", Type.Object({ parts: Type.Array(Part), last: Nullable(Part, { description: "d" }) }));
  const ref = { $ref: "#/components/schemas/Part" };
  expect(components.map(toJson(Whole), "out")).toEqual({ $ref: "#/components/schemas/Whole" });
  expect(components.list()).toEqual({
    Part: { type: "object", required: ["n"], properties: { n: { type: "integer" } } },
    Whole: {
      type: "object",
      required: ["parts", "last"],
      properties: {
        parts: { type: "array", items: ref },
        last: { type: "object", allOf: [ref], nullable: true, description: "d" },
      },
    },
  });
});

test("two different schemas can't have the same name", () => {
  const components = new Components();
  components.map(toJson(Named("One", Type.String())), "out");
  expect(() => components.map(toJson(Named("One", Type.Integer())), "out")).toThrow("One");
});

test("request schemas forbid additional properties, and response schemas allow them", () => {
  const schema = toJson(Closed({}));
  expect(new Components().map(schema, "in")).toMatchObject({ additionalProperties: false });
  expect(new Components().map(schema, "out")).not.toHaveProperty("additionalProperties");
});
