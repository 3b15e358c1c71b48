import fc, { type Arbitrary } from "fast-check";
import type { Schema } from "./catalog.ts";

/** Maximum UTF-16 code units and items of a sample, even if the schema allows more, because only the structure matters. */
const SAMPLE_CHARS_MAX = 40;
const SAMPLE_ITEMS_MAX = 3;
/** Sampled times are at least this far ahead, so that they are still in the future when the server checks them. */
const FUTURE_MS_MIN = 3_600_000;

/** Arbitraries for fields, by field name. They meet requirements that a schema can't express, for example that an id exists. */
export type FieldArbitraries = Readonly<Record<string, Arbitrary<unknown>>>;

/**
 * Creates values that match a schema. Unless `hasAllFields` is set, optional fields are sometimes absent.
 * @throws Error for an unsupported schema. If a new schema needs it, add support here.
 */
export function createSamples(
  schema: Schema,
  arbitraries: FieldArbitraries = {},
  hasAllFields = false,
): Arbitrary<unknown> {
  const nonNull = createNonNullSamples(schema, arbitraries, hasAllFields);
  return schema.nullable && !hasAllFields ? fc.option(nonNull, { freq: 5 }) : nonNull;
}

function createNonNullSamples(
  schema: Schema,
  arbitraries: FieldArbitraries,
  hasAllFields: boolean,
): Arbitrary<unknown> {
  // Samples with all fields must be valid requests. An enum's first value depends on the fewest other fields.
  if (schema.enum) return hasAllFields ? fc.constant(schema.enum[0]) : fc.constantFrom(...schema.enum);
  if (schema.anyOf) return fc.oneof(...schema.anyOf.map((branch) => createSamples(branch, arbitraries, hasAllFields)));
  switch (schema.type) {
    case "string":
      return createStrings(schema);
    case "integer":
      return fc.integer({ min: schema.minimum ?? -1_000_000, max: Math.min(schema.maximum ?? 1_000_000, 2 ** 31 - 1) });
    case "number":
      return fc.double({ min: schema.minimum ?? -1e6, max: schema.maximum ?? 1e6, noNaN: true });
    case "boolean":
      return fc.boolean();
    case "array":
      return createLists(schema, arbitraries, hasAllFields);
    case "object":
      return createObjects(schema, arbitraries, hasAllFields);
    case undefined:
      return fc.jsonValue({ maxDepth: 2, stringUnit: "grapheme" });
    default:
      throw new Error(`No samples for ${JSON.stringify(schema)}.`);
  }
}

function createStrings({ format, pattern, minLength = 0, maxLength = SAMPLE_CHARS_MAX }: Schema): Arbitrary<string> {
  if (format === "uuid") return fc.uuid();
  if (format === "email") return fc.emailAddress();
  if (format === "date-time")
    return fc
      .date({ min: new Date(Date.now() + FUTURE_MS_MIN), max: new Date("2099-01-01"), noInvalidDate: true })
      .map((at) => at.toISOString());
  if (format !== undefined) throw new Error(`No samples for the format ${format}.`);
  if (pattern !== undefined) return fc.stringMatching(new RegExp(pattern));
  const max = Math.min(maxLength, Math.max(minLength, SAMPLE_CHARS_MAX));
  // A grapheme can have many UTF-16 code units.
  return fc
    .string({ unit: "grapheme", minLength, maxLength: max })
    .filter((text) => text.length >= minLength && text.length <= maxLength && text.trim().length >= minLength);
}

function createLists(schema: Schema, arbitraries: FieldArbitraries, hasAllFields: boolean): Arbitrary<unknown[]> {
  const limits = {
    minLength: Math.max(schema.minItems ?? 0, hasAllFields ? 1 : 0),
    maxLength: Math.min(schema.maxItems ?? SAMPLE_ITEMS_MAX, SAMPLE_ITEMS_MAX),
  };
  return fc.array(createSamples(schema.items ?? {}, arbitraries, hasAllFields), limits);
}

function createObjects(schema: Schema, arbitraries: FieldArbitraries, hasAllFields: boolean): Arbitrary<object> {
  const properties = Object.entries(schema.properties ?? {}).map(([name, property]) => [
    name,
    Object.hasOwn(arbitraries, name) ? arbitraries[name] : createSamples(property, arbitraries, hasAllFields),
  ]);
  if (properties.length === 0)
    return fc.dictionary(fc.string({ maxLength: 10 }), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 4 });
  const requiredKeys = hasAllFields ? properties.map(([name]) => name as string) : (schema.required ?? []);
  return fc.record(Object.fromEntries(properties) as Record<string, Arbitrary<unknown>>, {
    requiredKeys: requiredKeys as never[],
    noNullPrototype: true,
  });
}
