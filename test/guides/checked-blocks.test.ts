import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { Ajv } from "ajv";
import { loadConfig } from "../../src/config.ts";
import { type Block, listPages, readBlocks } from "./blocks.ts";
import { isOnlyValidated } from "./checked-blocks.ts";
import { findNotRunReason, listNotRun } from "./not-run.ts";

const root = join(import.meta.dir, "../..");
const blocks = listPages().flatMap(readBlocks);
const checkedBlocks = blocks.filter((block) => isOnlyValidated(block) && findNotRunReason(block) === undefined);
const formatLocation = ({ page, line }: Block) => `${page}:${line}`;

/** Pages that a test in this folder runs from top to bottom. */
const runPages = new Set(
  [...new Bun.Glob("*.test.ts").scanSync(import.meta.dir)].flatMap((file) =>
    [...readFileSync(join(import.meta.dir, file), "utf8").matchAll(/\b(?:testGuide|runGuide)\("([^"]+)"/g)].map(
      ([, page = ""]) => page,
    ),
  ),
);

test("every block is run, validated, or listed in not-run.ts", () => {
  const needsTest = ({ language, kind }: Block) => kind === "run" && !["", "text"].includes(language);
  const uncoveredBlocks = blocks.filter(
    (block) =>
      needsTest(block) && !isOnlyValidated(block) && !runPages.has(block.page) && findNotRunReason(block) === undefined,
  );
  expect(uncoveredBlocks.map((block) => `${formatLocation(block)} ${block.text.split("\n")[0]}`)).toEqual([]);
});

test("every entry of not-run.ts refers to an existing block and has a reason", () => {
  const staleEntries = listNotRun().filter(
    ([page, start]) => !blocks.some((block) => block.page === page && block.text.trimStart().startsWith(start)),
  );
  expect(staleEntries).toEqual([]);
  for (const [, , reason] of listNotRun()) expect(reason).toMatch(/^.{15,}\.$/);
  const mentionedPaths = listNotRun().flatMap(([, , reason]) => reason.match(/\b(?:test|docs)\/[\w./-]*\w/g) ?? []);
  expect(mentionedPaths.length).toBeGreaterThan(20);
  expect(mentionedPaths.filter((path) => !existsSync(join(root, path)))).toEqual([]);
});

const documents = ["openapi", "asyncapi"].map((name) =>
  JSON.parse(readFileSync(join(root, `contract/${name}.json`), "utf8")),
);

/** Converts an OpenAPI 3.0 schema to JSON Schema, which has no `nullable`. */
function allowNull(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(allowNull);
  if (schema === null || typeof schema !== "object") return schema;
  const { nullable, ...otherFields } = schema as Record<string, unknown>;
  const mappedSchema = Object.fromEntries(Object.entries(otherFields).map(([key, value]) => [key, allowNull(value)]));
  return nullable === true ? { anyOf: [mappedSchema, { type: "null" }] } : mappedSchema;
}

const jsonBlocks = checkedBlocks.filter(({ language }) => language === "json");

/** Completes the ids and times that a page shortens. */
const completeValues = (text: string) =>
  text
    .replaceAll(/0199[0-9a-f-]*…/g, "0199a3b2-7c1e-7d21-8f4e-5b6a7c8d9e0f")
    .replaceAll(/"(\w+_at|at)": "…"/g, '"$1": "2026-01-31T12:00:00.000Z"');

test.each(jsonBlocks.map((block) => [formatLocation(block), block] as const))(
  "%s matches its schema",
  (name, block) => {
    const value = JSON.parse(completeValues(block.text));
    const { schema } = block;
    if (schema === undefined) throw new Error(`${name} has no schema=…; list it in not-run.ts if contract/ has none.`);
    const [api] = documents.filter(({ components }) => Object.hasOwn(components.schemas, schema));
    if (!api) throw new Error(`${name}: contract/ has no schema ${schema}.`);
    const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
    ajv.addSchema({ $id: "api", components: allowNull(api.components) });
    const isValid = ajv.validate({ $ref: `api#/components/schemas/${schema}` }, value);
    expect({ isValid, errors: ajv.errorsText() }).toEqual({ isValid: true, errors: "No errors" });
  },
);

const settingsBlocks = checkedBlocks.filter(({ isSettings }) => isSettings);

test.each(settingsBlocks.map((block) => [formatLocation(block), block] as const))(
  "%s has valid settings",
  (_, { text }) => {
    const environment = parseEnv(text.replaceAll(/^export /gm, ""));
    expect(Object.keys(environment).length).toBeGreaterThan(0);
    expect(() => loadConfig(environment, () => "x")).not.toThrow();
  },
);

/** The source code, with concatenated string literals joined. */
const sources = [...new Bun.Glob("src/**/*.ts").scanSync(root)]
  .map((path) => readFileSync(join(root, path), "utf8").replaceAll(/["`] \+\s*["`]/g, ""))
  .join("\n");
const errorBlocks = blocks.filter(({ kind }) => kind === "error");

test.each(errorBlocks.map((block) => [formatLocation(block), block] as const))(
  "%s quotes a message from the source code",
  (_, { text }) => {
    const parts = text
      .trim()
      .split(/ ?… ?/)
      .filter((part) => part.length > 2);
    expect(parts.length).toBeGreaterThan(0);
    expect(parts.filter((part) => !sources.includes(part))).toEqual([]);
  },
);
