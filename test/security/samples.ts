import fc, { type Arbitrary } from "fast-check";
import type { Schema } from "./catalogue.ts";

/** The maximum UTF-16 units and items of a sample, even if the schema allows more: only the structure matters. */
const SAMPLE_CHARS_MAX = 40;
const SAMPLE_ITEMS_MAX = 3;
/** A time is in the future, and still is when it is checked. */
const AN_HOUR_MS = 3_600_000;

/** Values for fields by name, for requirements that a schema can't express, such as an existing id. */
export type Hints = Readonly<Record<string, Arbitrary<unknown>>>;

/**
 * Values that match a schema. Optional fields are sometimes absent.
 * @throws Error for an unsupported schema: add support here when adding one.
 */
export function createSamples(schema: Schema, hints: Hints = {}, isEveryFieldIn = false): Arbitrary<unknown> {
  const fitting = createNotNull(schema, hints, isEveryFieldIn);
  return schema.nullable && !isEveryFieldIn ? fc.option(fitting, { freq: 5 }) : fitting;
}

function createNotNull(schema: Schema, hints: Hints, isEveryFieldIn: boolean): Arbitrary<unknown> {
  // If all fields are included, one plain request is wanted: the first choice requires the least.
  if (schema.enum) return isEveryFieldIn ? fc.constant(schema.enum[0]) : fc.constantFrom(...schema.enum);
  if (schema.anyOf) return fc.oneof(...schema.anyOf.map((branch) => createSamples(branch, hints, isEveryFieldIn)));
  switch (schema.type) {
    case "string":
      return createTexts(schema);
    case "integer":
      return fc.integer({ min: schema.minimum ?? -1_000_000, max: Math.min(schema.maximum ?? 1_000_000, 2 ** 31 - 1) });
    case "number":
      return fc.double({ min: schema.minimum ?? -1e6, max: schema.maximum ?? 1e6, noNaN: true });
    case "boolean":
      return fc.boolean();
    case "array":
      return createLists(schema, hints, isEveryFieldIn);
    case "object":
      return createObjects(schema, hints, isEveryFieldIn);
    case undefined:
      return fc.jsonValue({ maxDepth: 2, stringUnit: "grapheme" });
    default:
      throw new Error(`No samples for ${JSON.stringify(schema)}.`);
  }
}

function createTexts({ format, pattern, minLength = 0, maxLength = SAMPLE_CHARS_MAX }: Schema): Arbitrary<string> {
  if (format === "uuid") return fc.uuid();
  if (format === "email") return fc.emailAddress();
  if (format === "date-time")
    return fc
      .date({ min: new Date(Date.now() + AN_HOUR_MS), max: new Date("2099-01-01"), noInvalidDate: true })
      .map((at) => at.toISOString());
  if (format !== undefined) throw new Error(`No samples for the format ${format}.`);
  if (pattern !== undefined) return fc.stringMatching(new RegExp(pattern));
  const max = Math.min(maxLength, Math.max(minLength, SAMPLE_CHARS_MAX));
  // A grapheme may be many UTF-16 units.
  return fc
    .string({ unit: "grapheme", minLength, maxLength: max })
    .filter((text) => text.length >= minLength && text.length <= maxLength && text.trim().length >= minLength);
}

function createLists(schema: Schema, hints: Hints, isEveryFieldIn: boolean): Arbitrary<unknown[]> {
  const limits = {
    minLength: Math.max(schema.minItems ?? 0, isEveryFieldIn ? 1 : 0),
    maxLength: Math.min(schema.maxItems ?? SAMPLE_ITEMS_MAX, SAMPLE_ITEMS_MAX),
  };
  return fc.array(createSamples(schema.items ?? {}, hints, isEveryFieldIn), limits);
}

function createObjects(schema: Schema, hints: Hints, isEveryFieldIn: boolean): Arbitrary<object> {
  const known = Object.entries(schema.properties ?? {}).map(([name, property]) => [
    name,
    Object.hasOwn(hints, name) ? hints[name] : createSamples(property, hints, isEveryFieldIn),
  ]);
  if (known.length === 0)
    return fc.dictionary(fc.string({ maxLength: 10 }), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 4 });
  const requiredKeys = isEveryFieldIn ? known.map(([name]) => name as string) : (schema.required ?? []);
  return fc.record(Object.fromEntries(known) as Record<string, Arbitrary<unknown>>, {
    requiredKeys: requiredKeys as never[],
    noNullPrototype: true,
  });
}
