import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { createEnvExample, placeSettingsTable } from "../scripts/settings-docs.ts";
import { loadConfig } from "../src/config.ts";

const read = (path: string) => readFileSync(join(import.meta.dir, "..", path), "utf8");

test(".env.example is what `make docs` writes", () => {
  expect(read(".env.example")).toBe(createEnvExample());
});

test("the settings in docs/operations.md are what `make docs` writes", () => {
  const operations = read("docs/operations.md");
  expect(placeSettingsTable(operations)).toBe(operations);
  expect(operations).toContain("| `DATABASE_URL` (or `DATABASE_URL_FILE`) |");
});

test("every file that docs/architecture.md names is there, and its walks are short", () => {
  const text = read("docs/architecture.md");
  const named = [...text.matchAll(/`((?:src|sql|contract|test)\/[\w./-]+)`/g)].map(([, path]) => path ?? "");
  expect(named.length).toBeGreaterThan(40);
  expect(named.filter((path) => !existsSync(join(import.meta.dir, "..", path)))).toEqual([]);
  const stepsOf = (title: string) =>
    text
      .split(`## ${title}`)[1]
      ?.split("\n## ")[0]
      ?.match(/^\| \d+ \|/gm)?.length;
  expect(stepsOf("The walk of a message")).toBeLessThanOrEqual(12);
  expect(stepsOf("The walk of an answer")).toBeLessThanOrEqual(14);
});

test("every sample of .env.example is good", () => {
  const uncommented = createEnvExample().replaceAll(/^# ([A-Z_]+=.+)$/gm, "$1");
  const environment = parseEnv(uncommented);
  // These three need something beside them.
  const { TLS_CERT_FILE, TLS_KEY_FILE, AI_MODELS, ...rest } = environment;
  expect(Object.keys(rest).length).toBeGreaterThan(15);
  expect(() => loadConfig(rest, () => "")).not.toThrow();
  expect(AI_MODELS).toMatch(/^\w+\/\S+,\w+\/\S+$/);
});
