/** Maximum number of subschemas in a schema. */
const SCHEMAS_MAX = 1_000;
/** Maximum nesting depth of a schema. */
const DEPTH_MAX = 24;

type Schema = Record<string, unknown>;

const typeNames = new Set<unknown>(["array", "boolean", "integer", "null", "number", "object", "string"]);
/** Keywords whose value is a schema. */
const schemaKeywords = ["additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then"];
/** Keywords whose value is a list of schemas. */
const listKeywords = ["allOf", "anyOf", "oneOf", "prefixItems"];
/** Keywords whose value is an object of schemas. */
const mapKeywords = ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"];
/**
 * Keywords that providers reject next to `"type": "object"` at the top level. They are removed. The server validates the arguments
 * itself.
 */
const unsupportedTopKeywords = ["$schema", "$id", "allOf", "anyOf", "else", "enum", "if", "not", "oneOf", "then"];

class InvalidSchema extends Error {}

/**
 * Converts a tool's argument schema (JSON Schema 2020-12) to a schema that providers accept. Providers reject requests with an
 * invalid schema, so a single invalid tool could make every answer fail.
 * @throws InvalidSchema with the reason.
 */
export function convertSchema(value: unknown): Schema {
  if (!isObject(value) || value.type !== "object") throw new InvalidSchema("the schema does not describe an object");
  let schemaCount = 0;

  function convert(schema: unknown, depth: number): unknown {
    if (typeof schema === "boolean") return schema;
    if (!isObject(schema)) throw new InvalidSchema("a schema is neither an object nor a boolean");
    schemaCount += 1;
    if (schemaCount > SCHEMAS_MAX || depth > DEPTH_MAX) throw new InvalidSchema("the schema is too large");
    const result: Schema = { ...schema };
    checkKeywords(result);
    // Older versions of JSON Schema use `items` for tuples.
    if (Array.isArray(result.items)) {
      result.prefixItems = result.items;
      delete result.items;
    }
    for (const keyword of schemaKeywords) if (keyword in result) result[keyword] = convert(result[keyword], depth + 1);
    for (const keyword of listKeywords)
      if (keyword in result) result[keyword] = convertList(keyword, result[keyword], depth);
    for (const keyword of mapKeywords)
      if (keyword in result) result[keyword] = convertMap(keyword, result[keyword], depth);
    const isArray = [result.type].flat().includes("array");
    if (isArray && !("items" in result) && !("prefixItems" in result)) result.items = {};
    return result;
  }

  function convertList(keyword: string, list: unknown, depth: number): unknown[] {
    if (!Array.isArray(list) || list.length === 0) throw new InvalidSchema(`${keyword} is not a list of schemas`);
    return list.map((schema) => convert(schema, depth + 1));
  }

  function convertMap(keyword: string, map: unknown, depth: number): Schema {
    if (!isObject(map)) throw new InvalidSchema(`${keyword} is not an object`);
    return Object.fromEntries(Object.entries(map).map(([name, schema]) => [name, convert(schema, depth + 1)]));
  }

  const result = convert(value, 0) as Schema;
  for (const keyword of unsupportedTopKeywords) delete result[keyword];
  result.properties ??= {};
  for (const reference of listReferences(result))
    if (!hasTarget(result, reference)) throw new InvalidSchema("a $ref points to nothing in the schema");
  return result;
}

function checkKeywords({ type, required, enum: allowedValues, $ref }: Schema): void {
  if (
    type !== undefined &&
    !(Array.isArray(type) && type.length > 0 ? type : [type]).every((name) => typeNames.has(name))
  )
    throw new InvalidSchema("a type is not a JSON type");
  if (required !== undefined && !(Array.isArray(required) && required.every((name) => typeof name === "string")))
    throw new InvalidSchema("required is not a list of names");
  if (allowedValues !== undefined && !(Array.isArray(allowedValues) && allowedValues.length > 0))
    throw new InvalidSchema("enum is not a list of values");
  if ($ref !== undefined && typeof $ref !== "string") throw new InvalidSchema("a $ref is not a string");
}

function listReferences(value: unknown, references: string[] = []): string[] {
  if (typeof value !== "object" || value === null) return references;
  const { $ref } = value as { $ref?: unknown };
  if (typeof $ref === "string") references.push($ref);
  for (const inner of Object.values(value)) listReferences(inner, references);
  return references;
}

/** Returns whether a reference points to an existing part of the same schema. Other references aren't supported. */
function hasTarget(schema: Schema, reference: string): boolean {
  if (!/^#(?:\/|$)/.test(reference)) return false;
  let value: unknown = schema;
  for (const segment of reference.split("/").slice(1)) {
    const name = segment.replaceAll("~1", "/").replaceAll("~0", "~");
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, name)) return false;
    value = (value as Schema)[name];
  }
  return true;
}

const isObject = (value: unknown): value is Schema =>
  typeof value === "object" && value !== null && !Array.isArray(value);
