import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  RENDERED_CHARS_MAX,
  renderTemplate,
  type Variables,
  variableNames,
} from "../../src/modules/prompts/template.ts";
import { createVariables } from "../../src/modules/prompts/variables.ts";

/** The longest template, consisting of one repeated variable. */
const longestTemplate = "{{preferences.a}}".repeat(Math.floor(32_000 / "{{preferences.a}}".length));

const createTestVariables = (preferences: Record<string, unknown>): Variables =>
  createVariables({
    user: { id: "u", display_name: "Anna" },
    preferences,
    conversation: { id: "c", title: "Title", kind: "direct" },
    model: "m",
    now: new Date("2026-07-31T23:30:00Z"),
  });

/** Reference implementation, which renders the whole template regardless of cost. */
function renderAll(template: string, variables: Variables): string {
  const readVariable = (name: string): string => {
    if (!name.startsWith("preferences.")) return variables[name as Exclude<keyof Variables, "preferences">];
    const value = name
      .split(".")
      .reduce<unknown>((from, key) => (from as Record<string, unknown> | undefined)?.[key], variables);
    return typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value);
  };
  return template
    .replaceAll(/\\\{\{|\{\{\s*([\w.]+)\s*\}\}/g, (_, name?: string) =>
      name === undefined ? "{{" : readVariable(name),
    )
    .slice(0, RENDERED_CHARS_MAX)
    .toWellFormed();
}

describe("a template", () => {
  test("is rendered as if all values were inserted and the result then truncated", () => {
    const arbitraryValue = fc.oneof(
      fc.string({ unit: "binary", maxLength: 40 }),
      fc.constant("{{user.id}}"),
      fc.constant("😀".repeat(20_001)),
      fc.jsonValue(),
    );
    const names = ["a", "b", "c"];
    const arbitraryVariable = fc.constantFrom(
      ...variableNames,
      ...names.map((name) => `preferences.${name}`),
      "preferences.none",
    );
    const arbitraryPiece = fc.oneof(
      fc.string({ maxLength: 10 }).map((text) => text.replaceAll(/[{\\]/g, "")),
      fc.constant("\\{{"),
      fc.tuple(arbitraryVariable, fc.constantFrom("", " ")).map(([name, space]) => `{{${space}${name}${space}}}`),
    );
    fc.assert(
      fc.property(
        fc.array(arbitraryPiece, { maxLength: 30 }),
        fc.tuple(arbitraryValue, arbitraryValue, arbitraryValue),
        (pieces, [a, b, c]) => {
          const variables = createTestVariables({ a, b, c });
          expect(renderTemplate(pieces.join(""), variables)).toBe(renderAll(pieces.join(""), variables));
        },
      ),
    );
  });

  test("that repeats a long value thousands of times is truncated at the limit, and serializes the value once", () => {
    let serializationCount = 0;
    const a = {
      toJSON() {
        serializationCount += 1;
        return "x".repeat(16_000);
      },
    };
    const rendered = renderTemplate(`start ${longestTemplate}`, createTestVariables({ a }));
    expect(rendered).toHaveLength(RENDERED_CHARS_MAX);
    expect(rendered).toStartWith('start "xxx');
    expect(serializationCount).toBe(1);
  });

  test("doesn't read variables beyond the limit", () => {
    const readNames: string[] = [];
    const preferences = new Proxy<Record<string, unknown>>(
      { long: "x".repeat(RENDERED_CHARS_MAX), late: "y" },
      {
        get(target, name) {
          readNames.push(String(name));
          return Reflect.get(target, name);
        },
      },
    );
    renderTemplate("{{preferences.long}}{{preferences.late}}", createTestVariables(preferences));
    expect(readNames).toContain("long");
    expect(readNames).not.toContain("late");
  });

  test("is truncated between characters", () => {
    const rendered = renderTemplate("a{{preferences.a}}", createTestVariables({ a: "😀".repeat(RENDERED_CHARS_MAX) }));
    expect(rendered).toHaveLength(RENDERED_CHARS_MAX);
    expect(rendered.isWellFormed()).toBe(true);
  });

  test("uses the user's time zone, or UTC if it is unknown", () => {
    const clock = "{{date}} {{time}} {{weekday}}";
    expect(renderTemplate(clock, createTestVariables({ timezone: "Europe/Berlin" }))).toBe("2026-08-01 01:30 Saturday");
    for (const timezone of ["Nowhere/Land", 5, undefined])
      expect(renderTemplate(clock, createTestVariables({ timezone }))).toBe("2026-07-31 23:30 Friday");
  });
});
