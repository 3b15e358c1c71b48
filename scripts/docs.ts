// Writes what is made from code: .env.example, the settings in docs/operations.md, the metrics in docs/monitoring.md, the prices in
// docs/models.md, the error codes in docs/errors.md, and the fields of requests in docs/openai.md.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { placeErrorTables } from "./error-docs.ts";
import { placeMetricTable } from "./metric-docs.ts";
import { placeFieldTables } from "./openai-docs.ts";
import { placePriceTable } from "./price-docs.ts";
import { createEnvExample, placeSettingsTable } from "./settings-docs.ts";

const root = join(import.meta.dir, "..");

function rewrite(path: string, place: (markdown: string) => string): void {
  const file = join(root, path);
  writeFileSync(file, place(readFileSync(file, "utf8")));
}

writeFileSync(join(root, ".env.example"), createEnvExample());
rewrite("docs/operations.md", placeSettingsTable);
rewrite("docs/monitoring.md", placeMetricTable);
rewrite("docs/models.md", placePriceTable);
rewrite("docs/errors.md", placeErrorTables);
rewrite("docs/openai.md", placeFieldTables);
