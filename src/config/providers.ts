/** Names of the built-in providers, which prefix the names of their models. */
export const builtInProviders = ["openai", "anthropic", "compatible", "offline"] as const;

/** Maximum number of servers in AI_PROVIDERS. Each has its own settings, client and circuit breakers. */
export const PROVIDERS_MAX = 50;

/** Matches the name of a server in AI_PROVIDERS. */
const PROVIDER_NAME = /^[a-z0-9][a-z0-9-]{0,31}$/;

/** Splits an entry of AI_PROVIDERS into name and URL. If there is no `=`, the name is empty. */
export function splitProvider(entry: string): { name: string; url: string } {
  const equals = entry.indexOf("=");
  return { name: entry.slice(0, Math.max(0, equals)), url: entry.slice(equals + 1) };
}

export const isBuiltIn = (name: string): boolean => (builtInProviders as readonly string[]).includes(name);

export const isProviderName = (name: string): boolean => PROVIDER_NAME.test(name) && !isBuiltIn(name);

/** Returns whether an entry of AI_PROVIDERS has a valid name and URL. */
export function isProviderEntry(entry: string): boolean {
  const { name, url } = splitProvider(entry);
  // If two entries are joined by a semicolon, the first one's URL contains the second one's `name=`.
  return (
    isProviderName(name) &&
    /^https?:\/\/\S+$/.test(url) &&
    URL.canParse(url) &&
    !/;\s*[a-z0-9][a-z0-9-]*=https?:/.test(url)
  );
}

/** Returns the names in AI_PROVIDERS, including servers with an invalid URL, so that their other settings are recognized. */
export const listProviderNames = (entries: readonly string[] = []): string[] =>
  [...new Set(entries.map((entry) => splitProvider(entry).name))].filter(isProviderName).slice(0, PROVIDERS_MAX);

/** Converts a provider's name for use in the names of its settings: `my-server` becomes `MY_SERVER`. */
export const toSettingName = (provider: string): string => provider.toUpperCase().replaceAll("-", "_");

/** The default models, in fallback order. Other providers have none, because their models depend on the server. */
const defaultModels = [
  { key: "OPENAI_API_KEY", model: "openai/gpt-5.2" },
  { key: "ANTHROPIC_API_KEY", model: "anthropic/claude-sonnet-4-6" },
] as const;

type Keys = { [K in (typeof defaultModels)[number]["key"]]?: string | undefined };

/** Lists the models to use if AI_MODELS is unset: the default models of the providers that have a key. */
export const listDefaultModels = (config: Keys): string[] =>
  defaultModels.filter(({ key }) => config[key]).map(({ model }) => model);

/** Describes the default models for the documentation. */
export const describeDefaultModels = (): string =>
  defaultModels.map(({ key, model }) => `\`${model}\` with \`${key}\``).join(", ");
