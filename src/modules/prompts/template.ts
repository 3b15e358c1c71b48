import { createInvalid } from "../../lib/problem.ts";

/** Maximum length of a rendered prompt, in UTF-16 units. A template may use a long value many times. */
export const RENDERED_CHARS_MAX = 100_000;

/** The variables that a template may use, in addition to `preferences.…`. */
export const variableNames = [
  "user.id",
  "user.display_name",
  "conversation.id",
  "conversation.title",
  "conversation.kind",
  "model",
  "date",
  "time",
  "weekday",
] as const;

type VariableName = (typeof variableNames)[number];

/**
 * The values for rendering a template. `preferences` is JSON that the user has set; missing fields are rendered as
 * empty.
 */
export type Variables = Readonly<Record<VariableName, string>> & {
  readonly preferences: Readonly<Record<string, unknown>>;
};

/** Matches `{{name}}`, any other `{{` (an error), and `\{{` (literal braces). */
const placeholder = /\\\{\{|\{\{(?:\s*([A-Za-z_][\w.-]*)\s*\}\})?/g;
const preferenceName = /^preferences(?:\.[\w-]+)+$/;
const names = new Set<string>(variableNames);

/** Checks the variables. @throws Problem `invalid`, at `#/template`, for a `{{` without a valid variable. */
export function checkTemplate(template: string): void {
  for (const { 0: text, 1: name, index } of template.matchAll(placeholder)) {
    if (text.startsWith("\\")) continue;
    if (name === undefined)
      fail(
        `The {{ at character ${index} doesn't start a variable like {{user.display_name}}. Write \\{{ for literal braces.`,
      );
    else if (!names.has(name) && !preferenceName.test(name))
      fail(`Unknown variable ${name.slice(0, 100)}. Use ${variableNames.join(", ")} and preferences.<name>.`);
  }
}

function fail(detail: string): never {
  throw createInvalid("#/template", detail);
}

/**
 * Inserts the values. They are plain text: a `{{` in a value is kept unchanged. The result is cut off at
 * RENDERED_CHARS_MAX.
 */
export function renderTemplate(template: string, variables: Variables): string {
  /** Caches values, so that each non-string value is serialized only once. */
  const values = new Map<string, string>();
  function getValue(name: string): string {
    const known = values.get(name);
    if (known !== undefined) return known;
    const value = readVariable(name, variables);
    values.set(name, value);
    return value;
  }

  let rendered = "";
  let copiedUntil = 0;
  for (const { 0: text, 1: name, index } of template.matchAll(placeholder)) {
    if (rendered.length >= RENDERED_CHARS_MAX) break;
    const value = name === undefined ? (text.startsWith("\\") ? "{{" : text) : getValue(name);
    rendered += template.slice(copiedUntil, index) + value;
    copiedUntil = index + text.length;
  }
  return (rendered + template.slice(copiedUntil)).slice(0, RENDERED_CHARS_MAX).toWellFormed();
}

function readVariable(name: string, variables: Variables): string {
  if (!preferenceName.test(name)) return names.has(name) ? variables[name as VariableName] : "";
  let value: unknown = variables.preferences;
  for (const key of name.split(".").slice(1)) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return "";
    value = (value as Record<string, unknown>)[key];
  }
  if (value === null || value === undefined) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}
