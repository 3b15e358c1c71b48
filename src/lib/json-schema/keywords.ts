import { isPattern } from "./linear-pattern.ts";

/** How a keyword contains subschemas: a single schema, a list of schemas, or schemas by name. */
export type Applicator = "schema" | "schemas" | "map";

/** `isInPlace`: the subschemas apply to the same value as the schema itself, not to a part of it. */
type ApplicatorRule = { holds: Applicator; isInPlace?: boolean };

export const applicators: Readonly<Record<string, ApplicatorRule>> = {
  allOf: { holds: "schemas", isInPlace: true },
  anyOf: { holds: "schemas", isInPlace: true },
  oneOf: { holds: "schemas", isInPlace: true },
  not: { holds: "schema", isInPlace: true },
  // biome-ignore lint/suspicious/noThenProperty: this is a keyword of JSON Schema, not a promise.
  then: { holds: "schema", isInPlace: true },
  if: { holds: "schema", isInPlace: true },
  else: { holds: "schema", isInPlace: true },
  dependentSchemas: { holds: "map", isInPlace: true },
  properties: { holds: "map" },
  patternProperties: { holds: "map" },
  additionalProperties: { holds: "schema" },
  unevaluatedProperties: { holds: "schema" },
  propertyNames: { holds: "schema" },
  prefixItems: { holds: "schemas" },
  items: { holds: "schema" },
  additionalItems: { holds: "schema" },
  unevaluatedItems: { holds: "schema" },
  contains: { holds: "schema" },
};

const types = new Set(["array", "boolean", "integer", "null", "number", "object", "string"]);

const isText = (value: unknown): value is string => typeof value === "string";
const isNumber = (value: unknown) => typeof value === "number";
const isFlag = (value: unknown) => typeof value === "boolean";
const isCount = (value: unknown) => Number.isInteger(value) && (value as number) >= 0;
const isNames = (value: unknown) => Array.isArray(value) && value.every(isText);
const isType = (value: unknown) => isText(value) && types.has(value);
const isBound = (value: unknown) => isNumber(value) || isFlag(value);

type ValueRule = { isValid(value: unknown): boolean; wanted: string };

const count: ValueRule = { isValid: isCount, wanted: "must be a whole number from 0 on" };
const number: ValueRule = { isValid: isNumber, wanted: "must be a number" };
const bound: ValueRule = { isValid: isBound, wanted: "must be a number" };
const flag: ValueRule = { isValid: isFlag, wanted: "must be true or false" };

/** Keywords that validate a value. Unknown keywords are ignored, as JSON Schema requires. */
export const assertions: Readonly<Record<string, ValueRule>> = {
  type: {
    isValid: (value) => isType(value) || (Array.isArray(value) && value.length > 0 && value.every(isType)),
    wanted: `must be one of ${[...types].join(", ")}, or a list of them`,
  },
  enum: { isValid: (value) => Array.isArray(value), wanted: "must be a list" },
  const: { isValid: () => true, wanted: "" },
  required: { isValid: isNames, wanted: "must be a list of names" },
  dependentRequired: {
    isValid: (value) =>
      typeof value === "object" && value !== null && !Array.isArray(value) && Object.values(value).every(isNames),
    wanted: "must be an object of lists of names",
  },
  minimum: number,
  maximum: number,
  exclusiveMinimum: bound,
  exclusiveMaximum: bound,
  multipleOf: {
    isValid: (value) => isNumber(value) && (value as number) > 0,
    wanted: "must be a number above 0",
  },
  minLength: count,
  maxLength: count,
  minItems: count,
  maxItems: count,
  minContains: count,
  maxContains: count,
  minProperties: count,
  maxProperties: count,
  uniqueItems: flag,
  pattern: {
    isValid: (value) => isText(value) && isPattern(value),
    wanted: "must be a regular expression",
  },
  format: { isValid: isText, wanted: "must be a string" },
};

/** Formats that are checked, which takes linear time. Others are only hints for the model. */
export const checkedFormats = new Set([
  "date-time",
  "date",
  "time",
  "duration",
  "email",
  "hostname",
  "ipv4",
  "ipv6",
  "uri",
  "uuid",
]);
