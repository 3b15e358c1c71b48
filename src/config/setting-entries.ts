import type { TSchema } from "@sinclair/typebox";
import { listMcpSettings, mcpSettingsInDocs } from "./mcp.ts";
import { listProviderSettings, providerSettingsInDocs } from "./provider-settings.ts";
import type { SettingOptions } from "./setting-options.ts";
import { settingEntries } from "./settings.ts";

/** A setting's name in the environment, with its schema. */
export type SettingEntry = readonly [name: string, schema: TSchema & SettingOptions];

/** Servers named in settings. Each has its own settings. */
export type NamedServers = {
  readonly AI_PROVIDERS?: readonly string[] | undefined;
  readonly MCP_SERVERS?: readonly string[] | undefined;
};

/** Lists all settings. The settings of each named server follow the setting that names it. */
export const listSettingEntries = ({ AI_PROVIDERS, MCP_SERVERS }: NamedServers): SettingEntry[] =>
  withServerSettings(listProviderSettings(AI_PROVIDERS), listMcpSettings(MCP_SERVERS));

/** Lists all settings as documented, with the settings of a server called `<NAME>`. */
export const listSettingsInDocs = (): SettingEntry[] => withServerSettings(providerSettingsInDocs, mcpSettingsInDocs);

function withServerSettings(
  providerEntries: readonly SettingEntry[],
  mcpEntries: readonly SettingEntry[],
): SettingEntry[] {
  const serverEntries = new Map<string, readonly SettingEntry[]>([
    ["AI_PROVIDERS", providerEntries],
    ["MCP_SERVERS", mcpEntries],
  ]);
  return settingEntries.flatMap((entry) => [entry, ...(serverEntries.get(entry[0]) ?? [])]);
}

/** Returns the value of a setting, which may be one of a named server. */
export const readSetting = (config: object, name: string): unknown => (config as Record<string, unknown>)[name];
