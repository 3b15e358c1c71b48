import { expect, test } from "bun:test";
import { type TSchema, Type } from "@sinclair/typebox";
import { mapSchemaToOpenApi } from "../../src/http/openapi-schema.ts";
import { Nullable, OneOf, QueryInteger, Text } from "../../src/lib/schema.ts";

const map = (schema: TSchema) => mapSchemaToOpenApi(JSON.parse(JSON.stringify(schema)));

const scenarios: [string, TSchema, unknown][] = [
  ["null", Type.Null(), { enum: [null], nullable: true }],
  ["a nullable text", Nullable(Type.String()), { type: "string", nullable: true }],
  [
    "a nullable text with a description",
    Nullable(Type.String(), { description: "d" }),
    { type: "string", nullable: true, description: "d" },
  ],
  ["a literal", Type.Literal("a"), { type: "string", enum: ["a"] }],
  ["a union of literals", Type.Union([Type.Literal("a"), Type.Literal("b")]), { type: "string", enum: ["a", "b"] }],
  ["a nullable literal", Nullable(Type.Literal(1)), { type: "number", enum: [1], nullable: true }],
  ["one of several texts", OneOf(["a", "b"]), { type: "string", enum: ["a", "b"] }],
  ["free text", Text({ maxLength: 5 }), { type: "string", maxLength: 5 }],
  ["a number in a query", QueryInteger({ minimum: 1, maximum: 9 }), { type: "integer", minimum: 1, maximum: 9 }],
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
    "a property called const",
    Type.Object({ const: Type.String() }),
    {
      type: "object",
      required: ["const"],
      properties: { const: { type: "string" } },
    },
  ],
  ["examples", Type.String({ examples: ["a", "b"] }), { type: "string", example: "a" }],
];

test.each(scenarios)("%s", (_name, schema, expected) => {
  expect(map(schema)).toEqual(expected as never);
});
