import { createInvalidProblem } from "../../lib/problem.ts";

/** Maximum length of a rendered prompt, in UTF-16 code units. A template may insert a long value many times. */
export const RENDERED_CHARS_MAX = 100_000;

/** The variables of a template, in addition to `preferences.…`. */
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

/** The values for rendering a template. Missing preferences are rendered as an empty string. */
export type Variables = Readonly<Record<VariableName, string>> & {
  readonly preferences: Readonly<Record<string, unknown>>;
};

/** Matches `{{name}}`, `\{{` (literal braces), and any other `{{`, which is an error. */
const PLACEHOLDER = /\\\{\{|\{\{(?:\s*([A-Za-z_][\w.-]*)\s*\}\})?/g;
const PREFERENCE_NAME = /^preferences(?:\.[\w-]+)+$/;
const nameSet = new Set<string>(variableNames);

/** Checks a template's variables. @throws Problem `invalid`, at `#/template`, if one is invalid. */
export function checkTemplate(template: string): void {
  for (const { 0: text, 1: name, index } of template.matchAll(PLACEHOLDER)) {
    if (text.startsWith("\\")) continue;
    if (name === undefined)
      throwInvalid(
        `The {{ at character ${index} doesn't start a variable like {{user.display_name}}. Write \\{{ for literal braces.`,
      );
    else if (!nameSet.has(name) && !PREFERENCE_NAME.test(name))
      throwInvalid(`Unknown variable ${name.slice(0, 100)}. Use ${variableNames.join(", ")} and preferences.<name>.`);
  }
}

function throwInvalid(detail: string): never {
  throw createInvalidProblem("#/template", detail);
}

/**
 * Renders a template. A `{{` in a value is not replaced. The result is truncated to RENDERED_CHARS_MAX.
 */
export function renderTemplate(template: string, variables: Variables): string {
  /** Caches the values, so that each value that isn't a string is serialized only once. */
  const formattedValues = new Map<string, string>();
  function getValue(name: string): string {
    const formattedValue = formattedValues.get(name);
    if (formattedValue !== undefined) return formattedValue;
    const value = formatVariable(name, variables);
    formattedValues.set(name, value);
    return value;
  }

  let rendered = "";
  let copiedUntil = 0;
  for (const { 0: text, 1: name, index } of template.matchAll(PLACEHOLDER)) {
    if (rendered.length >= RENDERED_CHARS_MAX) break;
    const value = name === undefined ? (text.startsWith("\\") ? "{{" : text) : getValue(name);
    rendered += template.slice(copiedUntil, index) + value;
    copiedUntil = index + text.length;
  }
  return (rendered + template.slice(copiedUntil)).slice(0, RENDERED_CHARS_MAX).toWellFormed();
}

function formatVariable(name: string, variables: Variables): string {
  if (!PREFERENCE_NAME.test(name)) return nameSet.has(name) ? variables[name as VariableName] : "";
  let value: unknown = variables.preferences;
  for (const key of name.split(".").slice(1)) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return "";
    value = (value as Record<string, unknown>)[key];
  }
  if (value === null || value === undefined) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}
