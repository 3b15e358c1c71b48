// Generates documentation from code: .env.example, the settings in docs/operations.md, the metrics in docs/monitoring.md, the
// prices in docs/models.md, the error codes in docs/errors.md, the request fields in docs/openai.md, the frames and close codes
// in docs/realtime.md, the scopes in docs/api-keys.md, the limits in docs/limits.md and docs/fixed-limits.md, and
// THIRD-PARTY-NOTICES.txt.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { insertErrorTables } from "./error-docs.ts";
import { insertLimitTable } from "./limit-docs.ts";
import { insertMetricTable } from "./metric-docs.ts";
import { insertFieldTables } from "./openai-docs.ts";
import { insertPriceTable } from "./price-docs.ts";
import { insertProtocolTables, insertRealtimeLimits } from "./protocol-docs.ts";
import { createThirdPartyNotices } from "./release/notices.ts";
import { insertScopeTable } from "./scope-docs.ts";
import { createEnvExample, insertSettingsTable } from "./settings-docs.ts";

const root = join(import.meta.dir, "..");

function rewriteFile(path: string, edit: (markdown: string) => string): void {
  const file = join(root, path);
  writeFileSync(file, edit(readFileSync(file, "utf8")));
}

writeFileSync(join(root, ".env.example"), createEnvExample());
rewriteFile("docs/operations.md", insertSettingsTable);
rewriteFile("docs/monitoring.md", insertMetricTable);
rewriteFile("docs/models.md", insertPriceTable);
rewriteFile("docs/errors.md", insertErrorTables);
rewriteFile("docs/openai.md", insertFieldTables);
rewriteFile("docs/realtime.md", insertProtocolTables);
rewriteFile("docs/api-keys.md", insertScopeTable);
rewriteFile("docs/limits.md", insertRealtimeLimits);
rewriteFile("docs/fixed-limits.md", insertLimitTable);
writeFileSync(join(root, "THIRD-PARTY-NOTICES.txt"), createThirdPartyNotices(root));
