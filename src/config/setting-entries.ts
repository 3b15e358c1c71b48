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

/** All settings for these servers; a server's settings follow the setting that names it. */
export const listSettingEntries = ({ AI_PROVIDERS, MCP_SERVERS }: NamedServers): SettingEntry[] =>
  withServerSettings(listProviderSettings(AI_PROVIDERS), listMcpSettings(MCP_SERVERS));

/** The same for the docs, with the settings of a server called `<NAME>`. */
export const listSettingsInDocs = (): SettingEntry[] => withServerSettings(providerSettingsInDocs, mcpSettingsInDocs);

function withServerSettings(
  ofProviders: readonly SettingEntry[],
  ofMcpServers: readonly SettingEntry[],
): SettingEntry[] {
  const further = new Map<string, readonly SettingEntry[]>([
    ["AI_PROVIDERS", ofProviders],
    ["MCP_SERVERS", ofMcpServers],
  ]);
  return settingEntries.flatMap((entry) => [entry, ...(further.get(entry[0]) ?? [])]);
}

/** The value of a setting, which may belong to a named server. */
export const readSetting = (config: object, name: string): unknown => (config as Record<string, unknown>)[name];
