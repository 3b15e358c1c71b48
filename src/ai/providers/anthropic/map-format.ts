import { transformJSONSchema } from "@anthropic-ai/sdk/lib/transform-json-schema";
import { readFields, readList } from "../../fields.ts";
import { holdsForAll, isObjectSchema, listSubschemas } from "../../format/walk-schema.ts";
import type { AnswerFormat } from "../../provider.ts";

/**
 * Maps a format to the schema that Claude enforces: a subset of JSON Schema in which each object is closed; other
 * constraints are moved into descriptions. Null if the result would be a different schema or none: the model is then
 * instructed in words.
 */
export function mapToClaudeSchema(format: AnswerFormat): Record<string, unknown> | null {
  if (format.type !== "json_schema") return null;
  const { schema } = format;
  if (!holdsForAll(schema, canBeClosed) || isRecursive(schema)) return null;
  try {
    return transformJSONSchema(schema);
  } catch {
    return null;
  }
}

function canBeClosed(schema: unknown): boolean {
  const { properties, required, additionalProperties, patternProperties, allOf, $ref } = readFields(schema);
  // If each were closed separately, they would contradict each other.
  if (allOf !== undefined || patternProperties !== undefined) return false;
  if ($ref !== undefined && !/^#\/\$defs\/[^/]+$/.test(String($ref))) return false;
  if (!isObjectSchema(schema)) return true;
  const names = new Set(Object.keys(readFields(properties)));
  return (
    (names.size > 0 || additionalProperties === false) && readList(required).every((name) => names.has(String(name)))
  );
}

/** Whether a definition refers to itself. */
function isRecursive(schema: Readonly<Record<string, unknown>>): boolean {
  const definitions = readFields(schema.$defs);
  const known = new Map<string, boolean>();

  function leadsBack(inner: unknown): boolean {
    const { $ref } = readFields(inner);
    const name = typeof $ref === "string" ? ($ref.split("/").at(-1) ?? "") : null;
    if (name !== null) {
      const found = known.get(name);
      if (found !== undefined) return found;
      // Reaching an open definition again means recursion.
      known.set(name, true);
      known.set(name, leadsBack(definitions[name]));
    }
    return listSubschemas(inner).some(leadsBack) || (name !== null && (known.get(name) ?? false));
  }
  return leadsBack(schema);
}
