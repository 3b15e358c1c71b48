import { findPrice, type PriceTable, parsePrices } from "../lib/prices.ts";

/** What a model can do; `thinking`: it writes thoughts before the answer. Only `tools` is asked for so far. */
type Ability = "tools" | "images" | "thinking";

/** Models that differ in nothing but the price. */
type Family = {
  /** How the names of its models begin (`provider/name`). */
  prefix: string;
  /** Tokens of prompt and answer together; null: it has no window. */
  windowTokens: number | null;
  /** Tokens of its longest answer; null leaves it to the provider. */
  answerTokens: number | null;
  abilities: readonly Ability[];
  /** List prices in US dollars per million tokens, in and out, without the discounts for cached or batched tokens. */
  prices: Readonly<Record<string, readonly [input: number, output: number]>>;
};

/**
 * All that Parley knows of models by their names (checked in November 2026). The first family whose prefix fits counts, so
 * a new version has the window of its family at once. A price is that of one model, and of its dated names
 * (`gpt-4o-2024-08-06`); a model that is not named has no known price, and its cost is null rather than a guess.
 */
export const families: readonly Family[] = [
  {
    prefix: "openai/gpt-5",
    windowTokens: 400_000,
    answerTokens: 128_000,
    abilities: ["tools", "images", "thinking"],
    prices: {
      "openai/gpt-5.5": [5, 30],
      "openai/gpt-5.4": [2.5, 15],
      "openai/gpt-5.4-mini": [0.75, 4.5],
      "openai/gpt-5.4-nano": [0.2, 1.25],
      "openai/gpt-5.2": [1.75, 14],
      "openai/gpt-5.2-pro": [21, 168],
      "openai/gpt-5.1": [1.25, 10],
      "openai/gpt-5": [1.25, 10],
      "openai/gpt-5-pro": [15, 120],
      "openai/gpt-5-mini": [0.25, 2],
      "openai/gpt-5-nano": [0.05, 0.4],
    },
  },
  {
    prefix: "openai/gpt-4.1",
    windowTokens: 1_047_576,
    answerTokens: 32_768,
    abilities: ["tools", "images"],
    prices: {
      "openai/gpt-4.1": [2, 8],
      "openai/gpt-4.1-mini": [0.4, 1.6],
      "openai/gpt-4.1-nano": [0.1, 0.4],
    },
  },
  {
    prefix: "openai/gpt-4o",
    windowTokens: 128_000,
    answerTokens: 16_384,
    abilities: ["tools", "images"],
    prices: { "openai/gpt-4o": [2.5, 10], "openai/gpt-4o-mini": [0.15, 0.6] },
  },
  {
    prefix: "openai/o3",
    windowTokens: 200_000,
    answerTokens: 100_000,
    abilities: ["tools", "images", "thinking"],
    prices: { "openai/o3": [2, 8] },
  },
  {
    prefix: "openai/o4-mini",
    windowTokens: 200_000,
    answerTokens: 100_000,
    abilities: ["tools", "images", "thinking"],
    prices: { "openai/o4-mini": [1.1, 4.4] },
  },
  {
    prefix: "anthropic/claude-",
    windowTokens: 200_000,
    answerTokens: 32_000,
    abilities: ["tools", "images", "thinking"],
    prices: {
      "anthropic/claude-fable-5-1": [10, 50],
      "anthropic/claude-opus-5-5": [4, 20],
      "anthropic/claude-opus-5": [5, 25],
      "anthropic/claude-opus-4-7": [5, 25],
      "anthropic/claude-opus-4-6": [5, 25],
      "anthropic/claude-opus-4-5": [5, 25],
      "anthropic/claude-opus-4-1": [15, 75],
      "anthropic/claude-sonnet-5-5": [2, 10],
      "anthropic/claude-sonnet-5": [2, 10],
      "anthropic/claude-sonnet-4-6": [3, 15],
      "anthropic/claude-sonnet-4-5": [3, 15],
      "anthropic/claude-haiku-4-5": [1, 5],
    },
  },
  {
    prefix: "offline/",
    windowTokens: null,
    answerTokens: null,
    abilities: [],
    prices: { "offline/documents": [0, 0] },
  },
];

/** How much of a conversation a model is shown, and how long its answer may be, in tokens. */
type ModelBudget = {
  inputTokens: number;
  /** What is asked for as the most of an answer; null leaves it to the provider. */
  outputTokensMax: number | null;
};

/**
 * Most tokens of a conversation that any model is shown, unless the operator says otherwise: models take more, but each
 * message would pay for all of it again, and answers get no better by it.
 */
export const INPUT_TOKENS_DEFAULT = 64_000;
/** For models without a known window, local ones mostly: small enough for a window of 16,384 with its answer. */
export const INPUT_TOKENS_UNKNOWN = 12_000;

/** The catalogue with what the operator has set. Models are named `provider/name`. */
export type Catalogue = {
  /** The list prices with those of the configuration before them. */
  prices: PriceTable;
  /** The answer's share is kept free of the window. */
  budgetOf(model: string): ModelBudget;
  /** A model of no family may be able to do anything: it is asked, and says so if not. */
  can(model: string, ability: Ability): boolean;
};

/** How much each model may be shown, for those who need nothing else of the catalogue. */
export type BudgetOf = Catalogue["budgetOf"];

/**
 * Builds the catalogue.
 * @param settings.prices as in AI_PRICES: prices that are added or replaced. What cannot be read is left out.
 * @param settings.inputTokens what any model is shown at most, instead of the defaults; a known window still counts.
 */
export function createCatalogue(
  settings: { prices?: string | undefined; inputTokens?: number | undefined } = {},
): Catalogue {
  const { inputTokens } = settings;
  const find = (model: string) => families.find(({ prefix }) => model.startsWith(prefix));
  return {
    prices: { ...listPrices, ...(settings.prices === undefined ? {} : parsePrices(settings.prices)) },
    budgetOf(model) {
      const { windowTokens = null, answerTokens = null } = find(model) ?? {};
      if (windowTokens === null)
        return { inputTokens: inputTokens ?? INPUT_TOKENS_UNKNOWN, outputTokensMax: answerTokens };
      return {
        inputTokens: Math.min(windowTokens - (answerTokens ?? 0), inputTokens ?? INPUT_TOKENS_DEFAULT),
        outputTokensMax: answerTokens,
      };
    },
    can: (model, ability) => find(model)?.abilities.includes(ability) ?? true,
  };
}

const listPrices: PriceTable = Object.fromEntries(
  families.flatMap(({ prices }) =>
    Object.entries(prices).map(([model, [input, output]]) => [model, { input, output }] as const),
  ),
);

/**
 * The model for what nobody waits for: the cheapest of those whose price is known, else the last of the chain. Null when
 * only offline models are configured, which can write nothing of their own.
 */
export function findCheapestModel(models: readonly string[], prices: PriceTable): string | null {
  const writers = models.filter((model) => !model.startsWith("offline/"));
  const known = writers
    .map((model) => ({ model, price: findPrice(model, prices) }))
    .flatMap(({ model, price }) => (price ? [{ model, total: price.input + price.output }] : []))
    .sort((one, other) => one.total - other.total);
  return known[0]?.model ?? writers.at(-1) ?? null;
}
