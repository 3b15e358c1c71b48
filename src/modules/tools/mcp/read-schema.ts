/** Maximum subschemas in one schema, and their nesting depth. */
const SCHEMAS_MAX = 1_000;
const DEPTH_MAX = 24;

type Schema = Record<string, unknown>;

const typeNames = new Set<unknown>(["array", "boolean", "integer", "null", "number", "object", "string"]);
/** Keywords whose value is a schema, a list of schemas, or an object of schemas. */
const schemaKeywords = ["additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then"];
const listKeywords = ["allOf", "anyOf", "oneOf", "prefixItems"];
const mapKeywords = ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"];
/**
 * Keywords that providers reject next to `"type": "object"` at the top level. They can be removed, because the server
 * checks the arguments anyway.
 */
const unsupportedAtTop = ["$schema", "$id", "allOf", "anyOf", "else", "enum", "if", "not", "oneOf", "then"];

class InvalidSchema extends Error {}

/**
 * Adapts a tool's argument schema (JSON Schema 2020-12) to what providers accept. For one invalid schema, they reject
 * the whole request, so one tool could break every answer.
 * @throws InvalidSchema with the reason.
 */
export function readSchema(value: unknown): Schema {
  if (!isObject(value) || value.type !== "object") throw new InvalidSchema("the schema does not describe an object");
  let count = 0;

  function read(schema: unknown, depth: number): unknown {
    if (typeof schema === "boolean") return schema;
    if (!isObject(schema)) throw new InvalidSchema("a schema is neither an object nor a boolean");
    count += 1;
    if (count > SCHEMAS_MAX || depth > DEPTH_MAX) throw new InvalidSchema("the schema is too large");
    const result: Schema = { ...schema };
    checkKeywords(result);
    // The older keyword for tuples.
    if (Array.isArray(result.items)) {
      result.prefixItems = result.items;
      delete result.items;
    }
    for (const keyword of schemaKeywords) if (keyword in result) result[keyword] = read(result[keyword], depth + 1);
    for (const keyword of listKeywords)
      if (keyword in result) result[keyword] = readList(keyword, result[keyword], depth);
    for (const keyword of mapKeywords)
      if (keyword in result) result[keyword] = readMap(keyword, result[keyword], depth);
    const isArray = [result.type].flat().includes("array");
    if (isArray && !("items" in result) && !("prefixItems" in result)) result.items = {};
    return result;
  }

  function readList(keyword: string, list: unknown, depth: number): unknown[] {
    if (!Array.isArray(list) || list.length === 0) throw new InvalidSchema(`${keyword} is not a list of schemas`);
    return list.map((schema) => read(schema, depth + 1));
  }

  function readMap(keyword: string, map: unknown, depth: number): Schema {
    if (!isObject(map)) throw new InvalidSchema(`${keyword} is not an object`);
    return Object.fromEntries(Object.entries(map).map(([name, schema]) => [name, read(schema, depth + 1)]));
  }

  const result = read(value, 0) as Schema;
  for (const keyword of unsupportedAtTop) delete result[keyword];
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

function listReferences(value: unknown, found: string[] = []): string[] {
  if (typeof value !== "object" || value === null) return found;
  const { $ref } = value as { $ref?: unknown };
  if (typeof $ref === "string") found.push($ref);
  for (const inner of Object.values(value)) listReferences(inner, found);
  return found;
}

/** Whether a reference points to a part of the same schema. Other references aren't supported. */
function hasTarget(schema: Schema, reference: string): boolean {
  if (!/^#(?:\/|$)/.test(reference)) return false;
  let target: unknown = schema;
  for (const step of reference.split("/").slice(1)) {
    const name = step.replaceAll("~1", "/").replaceAll("~0", "~");
    if (typeof target !== "object" || target === null || !Object.hasOwn(target, name)) return false;
    target = (target as Schema)[name];
  }
  return true;
}

const isObject = (value: unknown): value is Schema =>
  typeof value === "object" && value !== null && !Array.isArray(value);
