/** Providers that are built in; the first part of their models' names. */
export const builtInProviders = ["openai", "anthropic", "compatible", "offline"] as const;

/** Further servers that AI_PROVIDERS may name. Each has settings, a client and breakers of its own. */
export const PROVIDERS_MAX = 50;

/** Of a server in AI_PROVIDERS. */
const PROVIDER_NAME = /^[a-z0-9][a-z0-9-]{0,31}$/;

/** The name and the address of one entry of AI_PROVIDERS; what has no `=` has no name. */
export function splitProvider(entry: string): { name: string; address: string } {
  const equals = entry.indexOf("=");
  return { name: entry.slice(0, Math.max(0, equals)), address: entry.slice(equals + 1) };
}

export const isBuiltIn = (name: string): boolean => (builtInProviders as readonly string[]).includes(name);

export const isProviderName = (name: string): boolean => PROVIDER_NAME.test(name) && !isBuiltIn(name);

/** Whether an entry of AI_PROVIDERS has a name and an address. */
export function isProvider(entry: string): boolean {
  const { name, address } = splitProvider(entry);
  // Two entries with a semicolon between them have the second one's `name=` in the address.
  return (
    isProviderName(name) &&
    /^https?:\/\/\S+$/.test(address) &&
    URL.canParse(address) &&
    !/;\s*[a-z0-9][a-z0-9-]*=https?:/.test(address)
  );
}

/** The names in AI_PROVIDERS, also those whose address is wrong: what else is set for them is meant for them. */
export const readProviderNames = (entries: readonly string[] = []): string[] =>
  [...new Set(entries.map((entry) => splitProvider(entry).name))].filter(isProviderName).slice(0, PROVIDERS_MAX);

/** A provider's name as the names of its settings have it: `my-server` is `MY_SERVER`. */
export const toSettingName = (provider: string): string => provider.toUpperCase().replaceAll("-", "_");

/**
 * The model of each provider that has one of its own, in fallback order. Other servers have none: their models are those
 * that were installed there.
 */
const defaultModels = [
  { key: "OPENAI_API_KEY", model: "openai/gpt-5.2" },
  { key: "ANTHROPIC_API_KEY", model: "anthropic/claude-sonnet-4-6" },
] as const;

type Keys = { [K in (typeof defaultModels)[number]["key"]]?: string | undefined };

/** The chain without AI_MODELS: the default models of the providers whose keys are set. None: Parley is offline. */
export const listDefaultModels = (config: Keys): string[] =>
  defaultModels.filter(({ key }) => config[key]).map(({ model }) => model);

/** The same for the docs. */
export const describeDefaultModels = (): string =>
  defaultModels.map(({ key, model }) => `\`${model}\` with \`${key}\``).join(", ");
