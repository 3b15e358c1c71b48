import { type HeaderFields, parseHeaderFields } from "../lib/header-fields.ts";
import { readProviderNames, splitProvider, toSettingName } from "./providers.ts";
import { readSetting } from "./setting-entries.ts";
import type { Settings } from "./settings.ts";

/** The values of a network provider's settings, and the names of these settings. */
export type ProviderConfig = {
  name: string;
  /** Undefined if not set. `openai` and `anthropic` have default URLs. */
  baseUrl: string | undefined;
  apiKey: string | undefined;
  headers: HeaderFields;
  /** Names for messages. `baseUrl` is the setting that contains the URL, `address` describes the URL within that setting. */
  settings: { baseUrl: string; address: string; apiKey: string; headers: string };
};

/** The providers' settings. May be part of a configuration. */
export type ProvidersConfig = Partial<Settings>;

const builtIn = ["openai", "anthropic", "compatible"] as const;

/** Lists all providers except `offline`: the built-in ones, configured or not, then those of AI_PROVIDERS in order. */
export function listProviders(config: ProvidersConfig): ProviderConfig[] {
  const entries = config.AI_PROVIDERS ?? [];
  return [
    ...builtIn.map((name) => readBuiltIn(name, config)),
    ...readProviderNames(entries).map((name) => readNamed(name, entries, config)),
  ];
}

function readBuiltIn(name: (typeof builtIn)[number], config: ProvidersConfig): ProviderConfig {
  const NAME = toSettingName(name);
  const settings = {
    baseUrl: `${NAME}_BASE_URL`,
    address: `${NAME}_BASE_URL`,
    apiKey: `${NAME}_API_KEY`,
    headers: `AI_${NAME}_HEADERS`,
  };
  return { name, baseUrl: readText(config, settings.baseUrl), ...readCredentials(config, settings), settings };
}

function readNamed(name: string, entries: readonly string[], config: ProvidersConfig): ProviderConfig {
  const NAME = toSettingName(name);
  const settings = {
    baseUrl: "AI_PROVIDERS",
    address: `the address of ${name} in AI_PROVIDERS`,
    apiKey: `AI_${NAME}_API_KEY`,
    headers: `AI_${NAME}_HEADERS`,
  };
  const entry = entries.find((each) => splitProvider(each).name === name) ?? "";
  return { name, baseUrl: splitProvider(entry).address, ...readCredentials(config, settings), settings };
}

const readCredentials = (config: ProvidersConfig, settings: ProviderConfig["settings"]) => ({
  apiKey: readText(config, settings.apiKey),
  headers: parseHeaderFields(readText(config, settings.headers) ?? "{}") ?? {},
});

function readText(config: ProvidersConfig, name: string): string | undefined {
  const value = readSetting(config, name);
  return typeof value === "string" ? value : undefined;
}
