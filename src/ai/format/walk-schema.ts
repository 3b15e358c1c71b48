import { asFields, asList } from "../fields.ts";

/** Returns a schema's direct subschemas and definitions. */
export function listSubschemas(schema: unknown): unknown[] {
  const fields = asFields(schema);
  const maps = ["properties", "patternProperties", "dependentSchemas", "$defs", "definitions"];
  const lists = ["allOf", "anyOf", "oneOf", "prefixItems", "items"];
  const singles = ["items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"];
  return [
    ...maps.flatMap((keyword) => Object.values(asFields(fields[keyword]))),
    ...lists.flatMap((keyword) => asList(fields[keyword])),
    ...singles.map((keyword) => fields[keyword]).filter((inner) => typeof inner === "object" && !Array.isArray(inner)),
  ];
}

/** Whether a schema and all its subschemas satisfy a condition. */
export const everySchema = (schema: unknown, condition: (schema: unknown) => boolean): boolean =>
  condition(schema) && listSubschemas(schema).every((inner) => everySchema(inner, condition));

/** Whether an object schema requires all of its properties and allows no others. */
export function isStrictObject(schema: unknown): boolean {
  const { additionalProperties, properties, required } = asFields(schema);
  const names = Object.keys(asFields(properties));
  const requiredNames = new Set(asList(required));
  return (
    additionalProperties === false &&
    names.length === requiredNames.size &&
    names.every((name) => requiredNames.has(name))
  );
}

/** Whether a schema describes objects. */
export function isObjectSchema(schema: unknown): boolean {
  const { type, properties } = asFields(schema);
  return type === "object" || asList(type).includes("object") || (type === undefined && properties !== undefined);
}
