import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseEnv } from "node:util";
import { Value } from "@sinclair/typebox/value";
import { insertErrorTables } from "../scripts/error-docs.ts";
import { insertLimitTable } from "../scripts/limit-docs.ts";
import { insertMetricTable } from "../scripts/metric-docs.ts";
import { insertFieldTables } from "../scripts/openai-docs.ts";
import { insertPriceTable } from "../scripts/price-docs.ts";
import { insertProtocolTables, insertRealtimeLimits } from "../scripts/protocol-docs.ts";
import { insertScopeTable } from "../scripts/scope-docs.ts";
import { createEnvExample, insertSettingsTable } from "../scripts/settings-docs.ts";
import { scopes } from "../src/access/scopes.ts";
import { loadConfig } from "../src/config.ts";
import { errorCodes } from "../src/lib/error-codes.ts";
import { requestFields } from "../src/modules/openai/request-fields.ts";
import { closeCodes } from "../src/protocol/close-codes.ts";
import { Conversation } from "../src/protocol/conversation.ts";
import { clientFrames } from "../src/protocol/frames.ts";
import { Message } from "../src/protocol/message.ts";
import { pushes } from "../src/protocol/pushes.ts";

const root = join(import.meta.dir, "..");
const readText = (path: string) => readFileSync(join(root, path), "utf8");

test(".env.example is up to date (`make docs`)", () => {
  expect(readText(".env.example")).toBe(createEnvExample());
});

test("the settings in docs/operations.md are up to date (`make docs`)", () => {
  const operations = readText("docs/operations.md");
  expect(insertSettingsTable(operations)).toBe(operations);
  expect(operations).toContain("| `DATABASE_URL` (or `DATABASE_URL_FILE`) |");
});

test("the prices in docs/models.md are up to date (`make docs`)", () => {
  const models = readText("docs/models.md");
  expect(insertPriceTable(models)).toBe(models);
  expect(models).toContain("| `anthropic/claude-sonnet-4-6` | 3 | 0.3 | 3.75 | 15 |");
});

test("the metrics in docs/monitoring.md are up to date (`make docs`)", () => {
  const monitoring = readText("docs/monitoring.md");
  expect(insertMetricTable(monitoring)).toBe(monitoring);
  expect(monitoring).toMatch(/^\| `parley_ai_failovers_total` \| counter \| `from`, `to`, `reason` \| \w/m);
});

test("the error codes in docs/errors.md are up to date (`make docs`), with one row each", () => {
  const errors = readText("docs/errors.md");
  expect(insertErrorTables(errors)).toBe(errors);
  for (const code of Object.keys(errorCodes)) expect(errors).toContain(`| \`${code}\` |`);
  // A pipe character in a description would create a sixth cell.
  expect(errors.split("\n").filter((line) => line.startsWith("| `") && line.split("|").length > 7)).toEqual([]);
});

test("the request fields in docs/openai.md are up to date (`make docs`)", () => {
  const openai = readText("docs/openai.md");
  expect(insertFieldTables(openai)).toBe(openai);
  expect(openai).toContain("| `top_k` | 400 | yes | yes |");
  for (const field of Object.keys(requestFields)) expect(openai).toContain(`| \`${field}\` |`);
});

test.each([
  ["frames, events and close codes", "docs/realtime.md", insertProtocolTables, "| 4006 | `token_expired` |"],
  ["scopes", "docs/api-keys.md", insertScopeTable, "| `messages:read` | `GET /api/v1/conversations/{id}/messages`<br>"],
  ["limits of connections", "docs/limits.md", insertRealtimeLimits, "| `frame_bytes` | 65,536 | bytes |"],
  ["fixed limits", "docs/fixed-limits.md", insertLimitTable, "| `FRAME_BYTES_MAX` | 65,536 | bytes |"],
] as const)("the %s in %s are up to date (`make docs`)", (_, path, insertTable, row) => {
  const markdown = readText(path);
  expect(insertTable(markdown)).toBe(markdown);
  expect(markdown).toContain(`\n${row}`);
});

test("the protocol's tables have a row for each frame, push, close code and scope", () => {
  const realtime = readText("docs/realtime.md");
  for (const type of Object.keys(clientFrames)) expect(realtime).toMatch(new RegExp(`^\\| \`${type}[ \`]`, "m"));
  for (const type of Object.keys(pushes)) expect(realtime).toContain(`\n| \`${type}\` |`);
  for (const [name, { code }] of Object.entries(closeCodes)) expect(realtime).toContain(`\n| ${code} | \`${name}\` |`);
  for (const scope of scopes) expect(readText("docs/api-keys.md").split(`\n| \`${scope}\` | `)).toHaveLength(3);
});

/** All patterns of error codes in the sources. */
const codePatterns = [
  /\bnew (?:Problem|ImportError)\(\s*"(\w+)"/g,
  /\bcreateProviderError\(\s*"(\w+)"/g,
  /\bcreateOpenAiError\(\s*\d+,\s*"(\w+)"/g,
  /\bcreateEnd\(\s*"\w+",\s*"(\w+)"/g,
  /(?<!\.)\bcode: "([a-z_]+)"/g,
  /(?<!typeof )\b(?:problem|error|failure|end)\.code === "([a-z_]+)"/g,
];

test("every error code in the sources is documented", () => {
  const usedCodes = new Set<string>();
  const files = [...new Bun.Glob("src/**/*.ts").scanSync(root)].filter((path) => !path.startsWith("src/db/"));
  for (const path of files)
    for (const pattern of codePatterns)
      for (const [, code = ""] of readText(path).matchAll(pattern)) usedCodes.add(code);
  expect(usedCodes.size).toBeGreaterThan(30);
  expect([...usedCodes].filter((code) => !Object.hasOwn(errorCodes, code))).toEqual([]);
});

test.each([
  ["conversation", Conversation],
  ["message", Message],
])("the JSON of a %s in docs/rest.md has every field of its schema", (name, schema) => {
  const block = new RegExp(`^\`\`\`json ${name}\\n(.*?)^\`\`\``, "ms").exec(readText("docs/rest.md"))?.[1] ?? "";
  const example = JSON.parse(block);
  expect([...Value.Errors(schema, example)].map(({ path, message }) => `${path}: ${message}`)).toEqual([]);
  expect(Object.keys(example).sort()).toEqual(Object.keys(schema.properties).sort());
});

test("every relative link in the documentation points to an existing file and heading", () => {
  const listSlugs = (text: string) =>
    [...text.replaceAll(/^```.*?^```/gms, "").matchAll(/^#+ (.+)$/gm)].map(([, title = ""]) =>
      title
        .toLowerCase()
        .replaceAll(/[^\w\- ]/g, "")
        .replaceAll(" ", "-"),
    );
  const brokenLinks: string[] = [];
  for (const path of ["README.md", "CONTRIBUTING.md", "SECURITY.md", ...new Bun.Glob("docs/*.md").scanSync(root)])
    for (const [, target = ""] of readText(path).matchAll(/\]\((?!https?:)([^)\s]*)\)/g)) {
      const [file = "", anchor] = target.split("#");
      const linked = file === "" ? path : join(dirname(path), file);
      const exists = existsSync(join(root, linked));
      if (!exists || (anchor && !listSlugs(readText(linked)).includes(anchor))) brokenLinks.push(`${path}: ${target}`);
    }
  expect(brokenLinks).toEqual([]);
});

test("README.md lists every page in docs/ once", () => {
  const listedPages = [...readText("README.md").matchAll(/^\| \[(docs\/[\w-]+\.md)\]/gm)].map(([, path = ""]) => path);
  expect(listedPages.sort()).toEqual([...new Bun.Glob("docs/*.md").scanSync(root)].sort());
});

test("every file named in docs/architecture.md exists, and its step tables are short", () => {
  const text = readText("docs/architecture.md");
  const diagram = /^```mermaid\n(.*?)^```/ms.exec(text)?.[1] ?? "";
  const diagramPaths = [...diagram.matchAll(/\bsrc\/[\w./-]+/g)].map(([path]) => path);
  expect(diagramPaths.length).toBeGreaterThan(8);
  const paths = [...text.matchAll(/`((?:src|sql|contract|test)\/[\w./-]+)`/g)]
    .map(([, path]) => path ?? "")
    .concat(diagramPaths);
  expect(paths.length).toBeGreaterThan(40);
  expect(paths.filter((path) => !existsSync(join(import.meta.dir, "..", path)))).toEqual([]);
  const countSteps = (title: string) =>
    text
      .split(`## ${title}`)[1]
      ?.split("\n## ")[0]
      ?.match(/^\| \d+ \|/gm)?.length;
  expect(countSteps("How a message is sent")).toBeLessThanOrEqual(12);
  expect(countSteps("How an answer is generated")).toBeLessThanOrEqual(14);
});

test("every example value in .env.example is valid", () => {
  const uncommented = createEnvExample().replaceAll(/^# ([A-Z_]+=.+)$/gm, "$1");
  const environment = parseEnv(uncommented);
  // These require another setting.
  const { TLS_CERT_FILE, TLS_KEY_FILE, NODE_EXTRA_CA_CERTS, AI_MODELS, ...otherSettings } = environment;
  expect(Object.keys(otherSettings).length).toBeGreaterThan(15);
  expect(() => loadConfig(otherSettings, () => "")).not.toThrow();
  expect(AI_MODELS).toMatch(/^\w+\/\S+,\w+\/\S+$/);
});
