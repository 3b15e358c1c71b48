// Generates the committed documents in contract/. With --check, it only compares them, and exits with code 1 if one differs.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createOpenApiDocument } from "../src/http/openapi-document.ts";
import { build } from "../src/lib/build.ts";
import { createAsyncApi } from "../src/protocol/asyncapi.ts";
import { createRoutes } from "../src/routes.ts";
import { createUnusedDependencies } from "./scope-docs.ts";

/** Each file and its generator, whose output must not depend on settings or the time. */
const documents: Record<string, () => unknown> = {
  "asyncapi.json": () => createAsyncApi(build),
  "openapi.json": () => createOpenApiDocument(createRoutes(createUnusedDependencies()), build.version),
};

const folder = join(import.meta.dir, "../contract");
const checksOnly = process.argv.includes("--check");
mkdirSync(folder, { recursive: true });

const outdated: string[] = [];
for (const [name, create] of Object.entries(documents)) {
  const path = join(folder, name);
  const text = `${JSON.stringify(await create(), null, 2)}\n`;
  if (!checksOnly) writeFileSync(path, text);
  else if (!existsSync(path) || readFileSync(path, "utf8") !== text) outdated.push(`contract/${name}`);
}
if (outdated.length > 0) {
  console.error(`${outdated.join(" and ")} differs from the source: run \`make contract\`, and commit the result.`);
  process.exit(1);
}
