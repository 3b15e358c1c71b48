import type { ErrorCode } from "../../lib/error-codes.ts";
import { escapePointer, formatPointer } from "../../lib/json.ts";
import { Problem } from "../../lib/problem.ts";
import { type FieldRule, type FieldRules, type FieldsObject, isFieldsObject } from "./field-rules.ts";
import { requestFields } from "./request-fields.ts";

/**
 * Removes fields whose values have no effect, such as nulls. Rejects unsupported fields, so that they aren't ignored silently.
 * Runs before the schema is checked.
 * @throws Problem `invalid`, which OpenAI clients receive as `unknown_parameter`, `unsupported_parameter` or
 * `unsupported_value`.
 */
export function prepareCompletion(body: unknown): void {
  if (isFieldsObject(body)) prepareFields(body, requestFields, "#");
}

function prepareFields(fields: FieldsObject, rules: FieldRules, pointer: string): void {
  for (const [name, value] of Object.entries(fields)) {
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined;
    if (value === null || rule?.isNeutral?.(value)) delete fields[name];
    else prepareValue(value, rule, `${pointer}/${escapePointer(name)}`);
  }
}

function prepareValue(value: unknown, rule: FieldRule | undefined, pointer: string): void {
  if (!rule) throw createRejectionProblem("unknown_parameter", pointer, "is not a supported parameter.");
  if (rule.treatment === "rejected")
    throw createRejectionProblem(
      rule.hasAcceptedValues ? "unsupported_value" : "unsupported_parameter",
      pointer,
      `is not supported. ${rule.note}`,
    );
  const { getInnerRules } = rule;
  if (!getInnerRules) return;
  for (const [index, entry] of (Array.isArray(value) ? value : [value]).entries())
    if (isFieldsObject(entry))
      prepareFields(entry, getInnerRules(entry), Array.isArray(value) ? `${pointer}/${index}` : pointer);
}

function createRejectionProblem(openAiCode: ErrorCode, pointer: string, predicate: string): Problem {
  const detail = `${formatPointer(pointer)} ${predicate}`;
  return new Problem("invalid", detail, { openAiCode, errors: [{ pointer, detail }] });
}
