import { isPattern } from "./linear-pattern.ts";

/** The value of a keyword with subschemas: a single schema, a list of schemas, or schemas by name. */
export type Applicator = "schema" | "schemas" | "map";

/** `isInPlace` means that the subschemas apply to the same value as the schema, rather than to a part of it. */
type ApplicatorRule = { content: Applicator; isInPlace?: boolean };

export const applicators: Readonly<Record<string, ApplicatorRule>> = {
  allOf: { content: "schemas", isInPlace: true },
  anyOf: { content: "schemas", isInPlace: true },
  oneOf: { content: "schemas", isInPlace: true },
  not: { content: "schema", isInPlace: true },
  // biome-ignore lint/suspicious/noThenProperty: this is a keyword of JSON Schema, not a promise.
  then: { content: "schema", isInPlace: true },
  if: { content: "schema", isInPlace: true },
  else: { content: "schema", isInPlace: true },
  dependentSchemas: { content: "map", isInPlace: true },
  properties: { content: "map" },
  patternProperties: { content: "map" },
  additionalProperties: { content: "schema" },
  unevaluatedProperties: { content: "schema" },
  propertyNames: { content: "schema" },
  prefixItems: { content: "schemas" },
  items: { content: "schema" },
  additionalItems: { content: "schema" },
  unevaluatedItems: { content: "schema" },
  contains: { content: "schema" },
};

const typeNames = new Set(["array", "boolean", "integer", "null", "number", "object", "string"]);

const isString = (value: unknown): value is string => typeof value === "string";
const isNumber = (value: unknown) => typeof value === "number";
const isBoolean = (value: unknown) => typeof value === "boolean";
const isCount = (value: unknown) => Number.isInteger(value) && (value as number) >= 0;
const isStringList = (value: unknown) => Array.isArray(value) && value.every(isString);
const isType = (value: unknown) => isString(value) && typeNames.has(value);
const isBound = (value: unknown) => isNumber(value) || isBoolean(value);

type ValueRule = { isValid(value: unknown): boolean; expectation: string };

const countRule: ValueRule = { isValid: isCount, expectation: "must be a whole number, 0 or more" };
const numberRule: ValueRule = { isValid: isNumber, expectation: "must be a number" };
const boundRule: ValueRule = { isValid: isBound, expectation: "must be a number" };
const flagRule: ValueRule = { isValid: isBoolean, expectation: "must be true or false" };

/** Keywords that validate a value. Unknown keywords are ignored, as JSON Schema requires. */
export const assertions: Readonly<Record<string, ValueRule>> = {
  type: {
    isValid: (value) => isType(value) || (Array.isArray(value) && value.length > 0 && value.every(isType)),
    expectation: `must be one of ${[...typeNames].join(", ")}, or a list of them`,
  },
  enum: { isValid: (value) => Array.isArray(value), expectation: "must be a list" },
  const: { isValid: () => true, expectation: "" },
  required: { isValid: isStringList, expectation: "must be a list of names" },
  dependentRequired: {
    isValid: (value) =>
      typeof value === "object" && value !== null && !Array.isArray(value) && Object.values(value).every(isStringList),
    expectation: "must be an object of lists of names",
  },
  minimum: numberRule,
  maximum: numberRule,
  exclusiveMinimum: boundRule,
  exclusiveMaximum: boundRule,
  multipleOf: {
    isValid: (value) => isNumber(value) && (value as number) > 0,
    expectation: "must be a number above 0",
  },
  minLength: countRule,
  maxLength: countRule,
  minItems: countRule,
  maxItems: countRule,
  minContains: countRule,
  maxContains: countRule,
  minProperties: countRule,
  maxProperties: countRule,
  uniqueItems: flagRule,
  pattern: {
    isValid: (value) => isString(value) && isPattern(value),
    expectation: "must be a regular expression",
  },
  format: { isValid: isString, expectation: "must be a string" },
};

/** Formats that are checked, in linear time. Others are only hints for the model. */
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
