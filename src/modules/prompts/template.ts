import { createInvalid } from "../../lib/problem.ts";

/** UTF-16 units of a rendered prompt: a value may stand in a template many times. */
export const RENDERED_CHARS_MAX = 100_000;

/** What a template may name, beside `preferences.…`. */
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

/** The values of one rendering. `preferences` is free JSON of the user; what is not in it is empty. */
export type Variables = Readonly<Record<VariableName, string>> & {
  readonly preferences: Readonly<Record<string, unknown>>;
};

/** `{{name}}`, or any other `{{`, which is a mistake; `\{{` stands for itself. */
const place = /\\\{\{|\{\{(?:\s*([A-Za-z_][\w.-]*)\s*\}\})?/g;
const preference = /^preferences(?:\.[\w-]+)+$/;
const names = new Set<string>(variableNames);

/** @throws Problem `invalid`, at `#/template`, for a `{{` that is no variable, or one that does not exist. */
export function checkTemplate(template: string): void {
  for (const { 0: text, 1: name, index } of template.matchAll(place)) {
    if (text.startsWith("\\")) continue;
    if (name === undefined)
      fail(
        `The {{ at character ${index} does not begin a variable like {{user.display_name}}; write \\{{ for the braces.`,
      );
    else if (!names.has(name) && !preference.test(name))
      fail(`There is no variable ${name.slice(0, 100)}. Known are ${variableNames.join(", ")} and preferences.<name>.`);
  }
}

function fail(detail: string): never {
  throw createInvalid("#/template", detail);
}

/**
 * Puts the values in their places. Values are text and nothing else: a `{{` in one of them stays as it is. Stops at
 * RENDERED_CHARS_MAX: a short template may name a long value thousands of times.
 */
export function renderTemplate(template: string, variables: Variables): string {
  /** A value that is no string is serialised once, however often it is named. */
  const values = new Map<string, string>();
  function getValue(name: string): string {
    const known = values.get(name);
    if (known !== undefined) return known;
    const value = readVariable(name, variables);
    values.set(name, value);
    return value;
  }

  let rendered = "";
  let copied = 0;
  for (const { 0: text, 1: name, index } of template.matchAll(place)) {
    if (rendered.length >= RENDERED_CHARS_MAX) break;
    const value = name === undefined ? (text.startsWith("\\") ? "{{" : text) : getValue(name);
    rendered += template.slice(copied, index) + value;
    copied = index + text.length;
  }
  return (rendered + template.slice(copied)).slice(0, RENDERED_CHARS_MAX).toWellFormed();
}

function readVariable(name: string, variables: Variables): string {
  if (!preference.test(name)) return names.has(name) ? variables[name as VariableName] : "";
  let value: unknown = variables.preferences;
  for (const key of name.split(".").slice(1)) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return "";
    value = (value as Record<string, unknown>)[key];
  }
  if (value === null || value === undefined) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}
