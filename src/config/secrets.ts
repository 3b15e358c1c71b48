import { listHeaderSecrets, parseHeaderFields } from "../lib/header-fields.ts";
import { listAddressSecrets } from "../lib/mask-address.ts";
import { getSetting, listSettingEntries } from "./setting-entries.ts";
import type { Settings } from "./settings.ts";
import { parseTracingHeaders } from "./tracing.ts";

/** Lists all secrets in the settings: secret values, and the secrets inside URLs and headers. */
export function listSecrets(config: Partial<Settings>): string[] {
  return listSettingEntries(config).flatMap(([name, schema]) => {
    const values = [getSetting(config, name) ?? []].flat().map(String);
    return values.flatMap((value) => {
      if (schema.format === "header-fields") return [value, ...listHeaderSecrets(parseHeaderFields(value) ?? {})];
      if (schema.format === "otel-headers") return [value, ...listHeaderSecrets(parseTracingHeaders(value) ?? {})];
      // In MCP_SERVERS, an entry is `name=url`.
      const url = value.slice(Math.max(0, value.lastIndexOf("=", value.indexOf("://")) + 1));
      const isEntirelySecret = schema.secret && !schema.isUrl;
      return [...(isEntirelySecret ? [value] : []), ...(value.includes("://") ? listAddressSecrets(url) : [])];
    });
  });
}
