import { readFields, readList } from "../fields.ts";

/** Returns the direct subschemas and definitions of a schema. */
export function listSubschemas(schema: unknown): unknown[] {
  const fields = readFields(schema);
  const maps = ["properties", "patternProperties", "dependentSchemas", "$defs", "definitions"];
  const lists = ["allOf", "anyOf", "oneOf", "prefixItems", "items"];
  const single = ["items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"];
  return [
    ...maps.flatMap((keyword) => Object.values(readFields(fields[keyword]))),
    ...lists.flatMap((keyword) => readList(fields[keyword])),
    ...single.map((keyword) => fields[keyword]).filter((inner) => typeof inner === "object" && !Array.isArray(inner)),
  ];
}

/** Whether a condition holds for a schema and all its subschemas. */
export const holdsForAll = (schema: unknown, condition: (schema: unknown) => boolean): boolean =>
  condition(schema) && listSubschemas(schema).every((inner) => holdsForAll(inner, condition));

/** Whether an object schema names all of its fields and allows no others. */
export function isClosedObject(schema: unknown): boolean {
  const { additionalProperties, properties, required } = readFields(schema);
  const names = Object.keys(readFields(properties));
  const wanted = new Set(readList(required));
  return additionalProperties === false && names.length === wanted.size && names.every((name) => wanted.has(name));
}

/** Whether a schema describes objects. */
export function isObjectSchema(schema: unknown): boolean {
  const { type, properties } = readFields(schema);
  return type === "object" || readList(type).includes("object") || (type === undefined && properties !== undefined);
}
