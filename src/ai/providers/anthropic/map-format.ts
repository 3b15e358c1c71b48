import { transformJSONSchema } from "@anthropic-ai/sdk/lib/transform-json-schema";
import { asFields, asList } from "../../fields.ts";
import { everySchema, isObjectSchema, listSubschemas } from "../../format/walk-schema.ts";
import type { AnswerFormat } from "../../provider.ts";

/**
 * Maps a format to a schema that Claude can enforce. Claude supports a subset of JSON Schema and requires that objects allow
 * no additional properties. Unsupported constraints are moved into descriptions. Returns null if the schema can't be expressed
 * this way; the model must then be instructed in words.
 */
export function mapToClaudeSchema(format: AnswerFormat): Record<string, unknown> | null {
  if (format.type !== "json_schema") return null;
  const { schema } = format;
  if (!everySchema(schema, canBeClosed) || isRecursive(schema)) return null;
  try {
    return transformJSONSchema(schema);
  } catch {
    return null;
  }
}

/** Whether a schema can forbid all properties that it doesn't list. */
function canBeClosed(schema: unknown): boolean {
  const { properties, required, additionalProperties, patternProperties, allOf, $ref } = asFields(schema);
  // The parts of an `allOf` would exclude each other's properties.
  if (allOf !== undefined || patternProperties !== undefined) return false;
  if ($ref !== undefined && !/^#\/\$defs\/[^/]+$/.test(String($ref))) return false;
  if (!isObjectSchema(schema)) return true;
  const names = new Set(Object.keys(asFields(properties)));
  return (
    (names.size > 0 || additionalProperties === false) && asList(required).every((name) => names.has(String(name)))
  );
}

/** Whether a definition refers to itself, directly or indirectly. */
function isRecursive(schema: Readonly<Record<string, unknown>>): boolean {
  const definitions = asFields(schema.$defs);
  const results = new Map<string, boolean>();

  function containsRecursion(inner: unknown): boolean {
    const { $ref } = asFields(inner);
    const name = typeof $ref === "string" ? ($ref.split("/").at(-1) ?? "") : null;
    if (name !== null) {
      const result = results.get(name);
      if (result !== undefined) return result;
      // If this definition is reached again before it is checked, it is recursive.
      results.set(name, true);
      results.set(name, containsRecursion(definitions[name]));
    }
    return listSubschemas(inner).some(containsRecursion) || (name !== null && (results.get(name) ?? false));
  }
  return containsRecursion(schema);
}
