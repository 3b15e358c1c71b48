// Generates documentation from code: .env.example, the settings and metrics in docs/operations.md, the prices in
// docs/models.md, the error codes in docs/errors.md, the request fields in docs/openai.md, the frames and close codes in
// docs/realtime.md, the scopes in docs/api-keys.md, the limits in docs/limits.md and docs/fixed-limits.md, and
// THIRD-PARTY-NOTICES.txt.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { placeErrorTables } from "./error-docs.ts";
import { placeLimitTable } from "./limit-docs.ts";
import { placeMetricTable } from "./metric-docs.ts";
import { placeFieldTables } from "./openai-docs.ts";
import { placePriceTable } from "./price-docs.ts";
import { placeProtocolTables, placeRealtimeLimits } from "./protocol-docs.ts";
import { createThirdPartyNotices } from "./release/notices.ts";
import { placeScopeTable } from "./scope-docs.ts";
import { createEnvExample, placeSettingsTable } from "./settings-docs.ts";

const root = join(import.meta.dir, "..");

function rewrite(path: string, edit: (markdown: string) => string): void {
  const file = join(root, path);
  writeFileSync(file, edit(readFileSync(file, "utf8")));
}

writeFileSync(join(root, ".env.example"), createEnvExample());
rewrite("docs/operations.md", (markdown) => placeMetricTable(placeSettingsTable(markdown)));
rewrite("docs/models.md", placePriceTable);
rewrite("docs/errors.md", placeErrorTables);
rewrite("docs/openai.md", placeFieldTables);
rewrite("docs/realtime.md", placeProtocolTables);
rewrite("docs/api-keys.md", placeScopeTable);
rewrite("docs/limits.md", placeRealtimeLimits);
rewrite("docs/fixed-limits.md", placeLimitTable);
writeFileSync(join(root, "THIRD-PARTY-NOTICES.txt"), createThirdPartyNotices(root));
