import { createInvalid } from "../../lib/problem.ts";

/** UTF-16 units of a rendered prompt: a value may stand in a template many times. */
const RENDERED_CHARS_MAX = 100_000;

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

/** Puts the values in their places. Values are text and nothing else: a `{{` in one of them stays as it is. */
export function renderTemplate(template: string, variables: Variables): string {
  const rendered = template.replaceAll(place, (text, name: string | undefined) => {
    if (text.startsWith("\\")) return "{{";
    return name === undefined ? text : readVariable(name, variables);
  });
  return rendered.slice(0, RENDERED_CHARS_MAX).toWellFormed();
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
