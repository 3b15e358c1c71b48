/** Built-in providers; the first part of their models' names. */
export const builtInProviders = ["openai", "anthropic", "compatible", "offline"] as const;

/** Maximum number of servers in AI_PROVIDERS. Each has its own settings, client and circuit breakers. */
export const PROVIDERS_MAX = 50;

/** The name of a server in AI_PROVIDERS. */
const PROVIDER_NAME = /^[a-z0-9][a-z0-9-]{0,31}$/;

/** The name and address of an entry of AI_PROVIDERS; without `=`, the name is empty. */
export function splitProvider(entry: string): { name: string; address: string } {
  const equals = entry.indexOf("=");
  return { name: entry.slice(0, Math.max(0, equals)), address: entry.slice(equals + 1) };
}

export const isBuiltIn = (name: string): boolean => (builtInProviders as readonly string[]).includes(name);

export const isProviderName = (name: string): boolean => PROVIDER_NAME.test(name) && !isBuiltIn(name);

/** Whether an entry of AI_PROVIDERS has a name and an address. */
export function isProvider(entry: string): boolean {
  const { name, address } = splitProvider(entry);
  // In two entries joined by a semicolon, the address contains the second one's `name=`.
  return (
    isProviderName(name) &&
    /^https?:\/\/\S+$/.test(address) &&
    URL.canParse(address) &&
    !/;\s*[a-z0-9][a-z0-9-]*=https?:/.test(address)
  );
}

/** The names in AI_PROVIDERS, including those with a wrong address, because their other settings belong to them. */
export const readProviderNames = (entries: readonly string[] = []): string[] =>
  [...new Set(entries.map((entry) => splitProvider(entry).name))].filter(isProviderName).slice(0, PROVIDERS_MAX);

/** A provider's name as used in its setting names: `my-server` is `MY_SERVER`. */
export const toSettingName = (provider: string): string => provider.toUpperCase().replaceAll("-", "_");

/**
 * The default models, in fallback order. Other servers have none: their models depend on what is installed there.
 */
const defaultModels = [
  { key: "OPENAI_API_KEY", model: "openai/gpt-5.2" },
  { key: "ANTHROPIC_API_KEY", model: "anthropic/claude-sonnet-4-6" },
] as const;

type Keys = { [K in (typeof defaultModels)[number]["key"]]?: string | undefined };

/** The fallback chain without AI_MODELS: the default models of providers with a key. Empty: Parley is offline. */
export const listDefaultModels = (config: Keys): string[] =>
  defaultModels.filter(({ key }) => config[key]).map(({ model }) => model);

/** The same, for the docs. */
export const describeDefaultModels = (): string =>
  defaultModels.map(({ key, model }) => `\`${model}\` with \`${key}\``).join(", ");
