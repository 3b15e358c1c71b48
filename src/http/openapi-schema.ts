type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

export const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Formats by which the framework marks what it reads out of a text; beside them stands the type that is meant. */
const coercedFormats = new Set(["integer", "numeric", "boolean", "ObjectString", "ArrayString", "date"]);
/** Keywords of validation that mean nothing to readers of OpenAPI 3.0. */
const dropped = new Set(["$id", "$schema", "error", "examples", "const", "patternProperties"]);

/**
 * Rewrites a JSON Schema as TypeBox makes it into the dialect of OpenAPI 3.0: no `const`, no type `null`, no
 * `patternProperties`, boolean exclusive bounds. Schemas below it are rewritten too.
 */
export function mapSchemaToOpenApi(schema: Json): Json {
  if (Array.isArray(schema)) return schema.map(mapSchemaToOpenApi);
  if (!isObject(schema)) return schema;
  if (schema.type === "null") return { enum: [null], nullable: true };
  if (Array.isArray(schema.anyOf)) return mapUnion(schema, schema.anyOf.filter(isObject));
  const mapped: JsonObject = {};
  for (const [key, value] of Object.entries(schema)) {
    if (dropped.has(key) || (key === "format" && (value === "text" || value === "line"))) continue;
    if (key === "properties" && isObject(value))
      mapped.properties = Object.fromEntries(
        Object.entries(value).map(([name, property]) => [name, mapSchemaToOpenApi(property)]),
      );
    else mapped[key] = key === "enum" || key === "default" || key === "example" ? value : mapSchemaToOpenApi(value);
  }
  if (schema.const !== undefined) mapped.enum = [schema.const];
  if (Array.isArray(schema.examples) && schema.examples[0] !== undefined) mapped.example = schema.examples[0];
  if (isObject(schema.patternProperties))
    mapped.additionalProperties = mapSchemaToOpenApi(Object.values(schema.patternProperties)[0] ?? {});
  for (const [exclusive, bound] of [
    ["exclusiveMinimum", "minimum"],
    ["exclusiveMaximum", "maximum"],
  ] as const)
    if (typeof schema[exclusive] === "number") Object.assign(mapped, { [bound]: schema[exclusive], [exclusive]: true });
  return mapped;
}

function mapUnion(schema: JsonObject, branches: JsonObject[]): Json {
  const { anyOf: _, ...outer } = schema;
  const isNullable = branches.some(({ type }) => type === "null");
  const meant = branches.filter((branch) => branch.type !== "null" && !isCoerced(branch, branches));
  const rest = { ...outer, ...(isNullable && { nullable: true }) };
  const constants = meant.map((branch) => branch.const);
  if (constants.length > 0 && constants.every((constant) => typeof constant === "string"))
    return mapSchemaToOpenApi({ ...rest, type: "string", enum: constants as string[] });
  const [only] = meant;
  if (meant.length === 1 && only) return mapSchemaToOpenApi({ ...only, ...rest });
  return { ...(mapSchemaToOpenApi(rest) as JsonObject), anyOf: meant.map(mapSchemaToOpenApi) };
}

function isCoerced(branch: JsonObject, branches: JsonObject[]): boolean {
  return branches.length > 1 && branch.type === "string" && coercedFormats.has(String(branch.format));
}
