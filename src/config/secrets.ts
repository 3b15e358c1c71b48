import { listHeaderSecrets, parseHeaderFields } from "../lib/header-fields.ts";
import { listAddressSecrets } from "../lib/mask-address.ts";
import { listSettingEntries, readSetting } from "./setting-entries.ts";
import type { Settings } from "./settings.ts";
import { readHeaders } from "./tracing.ts";

/** Lists all secrets in the settings: whole values, and those inside URLs and header fields. */
export function listSecrets(config: Partial<Settings>): string[] {
  return listSettingEntries(config).flatMap(([name, schema]) => {
    const values = [readSetting(config, name) ?? []].flat().map(String);
    return values.flatMap((value) => {
      if (schema.format === "header-fields") return [value, ...listHeaderSecrets(parseHeaderFields(value) ?? {})];
      if (schema.format === "otel-headers") return [value, ...listHeaderSecrets(readHeaders(value) ?? {})];
      // `name=url`, as in MCP_SERVERS.
      const address = value.slice(Math.max(0, value.lastIndexOf("=", value.indexOf("://")) + 1));
      const isWhole = schema.secret && !schema.isAddress;
      return [...(isWhole ? [value] : []), ...(value.includes("://") ? listAddressSecrets(address) : [])];
    });
  });
}
