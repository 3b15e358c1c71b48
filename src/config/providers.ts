/** Who serves models; the first part of their names. */
export const providerNames = ["openai", "anthropic", "compatible", "offline"] as const;

/**
 * The model of each provider that has one of its own, in fallback order. A server behind COMPATIBLE_BASE_URL has none: its
 * models are those that were installed there.
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
