import type { TSchema } from "@sinclair/typebox";
import { listMcpSettings, mcpSettingsInDocs } from "./mcp.ts";
import { listProviderSettings, providerSettingsInDocs } from "./provider-settings.ts";
import type { SettingOptions } from "./setting-options.ts";
import { settingEntries } from "./settings.ts";

/** The name of a setting's environment variable, and its schema. */
export type SettingEntry = readonly [name: string, schema: TSchema & SettingOptions];

/** Settings that list servers. Each server has its own settings. */
export type NamedServers = {
  readonly AI_PROVIDERS?: readonly string[] | undefined;
  readonly MCP_SERVERS?: readonly string[] | undefined;
};

/** Lists all settings. Each setting that lists servers is followed by the settings of those servers. */
export const listSettingEntries = ({ AI_PROVIDERS, MCP_SERVERS }: NamedServers): SettingEntry[] =>
  addServerSettings(listProviderSettings(AI_PROVIDERS), listMcpSettings(MCP_SERVERS));

/** Lists all settings for the documentation, with the settings of a server called `<NAME>`. */
export const listSettingsInDocs = (): SettingEntry[] => addServerSettings(providerSettingsInDocs, mcpSettingsInDocs);

function addServerSettings(
  providerEntries: readonly SettingEntry[],
  mcpEntries: readonly SettingEntry[],
): SettingEntry[] {
  const serverEntries = new Map<string, readonly SettingEntry[]>([
    ["AI_PROVIDERS", providerEntries],
    ["MCP_SERVERS", mcpEntries],
  ]);
  return settingEntries.flatMap((entry) => [entry, ...(serverEntries.get(entry[0]) ?? [])]);
}

/** Returns the value of a setting by its name. */
export const getSetting = (config: object, name: string): unknown => (config as Record<string, unknown>)[name];
