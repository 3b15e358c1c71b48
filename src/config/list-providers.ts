import { type HeaderFields, parseHeaderFields } from "../lib/header-fields.ts";
import { listProviderNames, splitProvider, toSettingName } from "./providers.ts";
import { getSetting } from "./setting-entries.ts";
import type { Settings } from "./settings.ts";

/** The settings of a network provider. */
export type ProviderConfig = {
  name: string;
  /** Undefined if not set. `openai` and `anthropic` have default URLs. */
  baseUrl: string | undefined;
  apiKey: string | undefined;
  headers: HeaderFields;
  /** Names of the settings. `urlDescription` describes the URL in messages, because AI_PROVIDERS can contain several URLs. */
  settings: { baseUrl: string; urlDescription: string; apiKey: string; headers: string };
};

/** The settings; some may be missing. */
export type PartialSettings = Partial<Settings>;

const networkProviders = ["openai", "anthropic", "compatible"] as const;

/** Lists all providers except `offline`: the built-in ones, even if they aren't configured, and then those in AI_PROVIDERS. */
export function listProviders(config: PartialSettings): ProviderConfig[] {
  const entries = config.AI_PROVIDERS ?? [];
  return [
    ...networkProviders.map((name) => createBuiltInProvider(name, config)),
    ...listProviderNames(entries).map((name) => createNamedProvider(name, entries, config)),
  ];
}

function createBuiltInProvider(name: (typeof networkProviders)[number], config: PartialSettings): ProviderConfig {
  const NAME = toSettingName(name);
  const settings = {
    baseUrl: `${NAME}_BASE_URL`,
    urlDescription: `${NAME}_BASE_URL`,
    apiKey: `${NAME}_API_KEY`,
    headers: `AI_${NAME}_HEADERS`,
  };
  return { name, baseUrl: findStringSetting(config, settings.baseUrl), ...findCredentials(config, settings), settings };
}

function createNamedProvider(name: string, entries: readonly string[], config: PartialSettings): ProviderConfig {
  const NAME = toSettingName(name);
  const settings = {
    baseUrl: "AI_PROVIDERS",
    urlDescription: `the URL of ${name} in AI_PROVIDERS`,
    apiKey: `AI_${NAME}_API_KEY`,
    headers: `AI_${NAME}_HEADERS`,
  };
  const entry = entries.find((each) => splitProvider(each).name === name) ?? "";
  return { name, baseUrl: splitProvider(entry).url, ...findCredentials(config, settings), settings };
}

const findCredentials = (config: PartialSettings, settings: ProviderConfig["settings"]) => ({
  apiKey: findStringSetting(config, settings.apiKey),
  headers: parseHeaderFields(findStringSetting(config, settings.headers) ?? "{}") ?? {},
});

function findStringSetting(config: PartialSettings, name: string): string | undefined {
  const value = getSetting(config, name);
  return typeof value === "string" ? value : undefined;
}
