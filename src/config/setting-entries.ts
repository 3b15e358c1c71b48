import type { TSchema } from "@sinclair/typebox";
import { listProviderSettings, providerSettingsInDocs } from "./provider-settings.ts";
import type { SettingOptions } from "./setting-options.ts";
import { settingEntries } from "./settings.ts";

/** A setting's name in the environment, with what it takes. */
export type SettingEntry = readonly [name: string, schema: TSchema & SettingOptions];

/** All settings there are with these servers in AI_PROVIDERS, whose own settings come behind it. */
export const listSettingEntries = (providers: readonly string[] | undefined): SettingEntry[] =>
  withProviderSettings(listProviderSettings(providers));

/** The same for the docs: with the settings of a server called `<NAME>`. */
export const listSettingsInDocs = (): SettingEntry[] => withProviderSettings(providerSettingsInDocs);

function withProviderSettings(entries: readonly SettingEntry[]): SettingEntry[] {
  const end = settingEntries.findIndex(([name]) => name === "AI_PROVIDERS") + 1;
  return [...settingEntries.slice(0, end), ...entries, ...settingEntries.slice(end)];
}

/** The value of a setting that may be one of a server's own. */
export const readSetting = (config: object, name: string): unknown => (config as Record<string, unknown>)[name];
