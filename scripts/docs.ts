// Writes what is made from the schema of the settings: .env.example, and the table in docs/operations.md.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createEnvExample, placeSettingsTable } from "./settings-docs.ts";

const root = join(import.meta.dir, "..");
const operations = join(root, "docs/operations.md");

writeFileSync(join(root, ".env.example"), createEnvExample());
writeFileSync(operations, placeSettingsTable(readFileSync(operations, "utf8")));
