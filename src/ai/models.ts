import { parsePrices } from "../lib/parse-prices.ts";
import { findPrice, type PriceTable } from "../lib/prices.ts";
import { findModelLimits, type ModelLimits } from "./model-limits.ts";
import { isKnownNotToThink, isKnownWithoutSchemas, nameByMaker } from "./model-traits.ts";
import { listPrices } from "./price-list.ts";
import type { AnswerFormat } from "./provider.ts";

/**
 * What a model can do. `thinking`: it may think before it answers and be silent meanwhile. `json_object`, `json_schema`: it
 * can answer in that format, enforced by its provider or instructed in words. A family lists what most of its models can do;
 * model-traits.ts lists the exceptions.
 */
type Capability = "tools" | "images" | "thinking" | AnswerFormat["type"];

const formats = ["json_object", "json_schema"] as const satisfies Capability[];

/** Models that share abilities and mostly limits (exceptions are in model-limits.ts). */
type Family = ModelLimits & {
  /** The prefix of its models' names (`provider/name`). */
  prefix: string;
  abilities: readonly Capability[];
};

/**
 * Known model families by name; prices are in price-list.ts. Checked in November 2026. The first matching prefix wins, so a
 * new version gets its family's window immediately.
 */
const families: readonly Family[] = [
  {
    prefix: "openai/gpt-6",
    windowTokens: 1_050_000,
    answerTokens: 128_000,
    abilities: ["tools", "images", "thinking", ...formats],
  },
  {
    prefix: "openai/gpt-5",
    windowTokens: 400_000,
    answerTokens: 128_000,
    abilities: ["tools", "images", "thinking", ...formats],
  },
  {
    prefix: "openai/gpt-4.1",
    windowTokens: 1_047_576,
    answerTokens: 32_768,
    abilities: ["tools", "images", ...formats],
  },
  {
    prefix: "openai/gpt-4o",
    windowTokens: 128_000,
    answerTokens: 16_384,
    abilities: ["tools", "images", ...formats],
  },
  {
    prefix: "openai/o3",
    windowTokens: 200_000,
    answerTokens: 100_000,
    abilities: ["tools", "images", "thinking", ...formats],
  },
  {
    prefix: "openai/o4-mini",
    windowTokens: 200_000,
    answerTokens: 100_000,
    abilities: ["tools", "images", "thinking", ...formats],
  },
  {
    prefix: "anthropic/claude-",
    windowTokens: 200_000,
    // All Claude models since version 4; earlier ones have their own limits.
    answerTokens: 32_000,
    abilities: ["tools", "images", "thinking", ...formats],
  },
  {
    prefix: "offline/",
    windowTokens: null,
    answerTokens: null,
    abilities: [],
  },
];

/** How much of a conversation a model receives, and how long its answer may be, in tokens. */
type ModelBudget = {
  inputTokens: number;
  /** The maximum answer length to request; null: the provider decides. */
  outputTokensMax: number | null;
};

/**
 * Most tokens of a conversation that any model receives, unless configured otherwise. Models accept more, but every message
 * would pay for all of it again without better answers.
 */
export const INPUT_TOKENS_DEFAULT = 64_000;
/** For models with an unknown window, mostly local ones: fits a window of 16,384 together with the answer. */
export const INPUT_TOKENS_UNKNOWN = 12_000;

/** The model catalog with the operator's settings applied. Models are named `provider/name`. */
export type Catalog = {
  /** List prices, overridden by configured ones. */
  prices: PriceTable;
  /** The model's own limits. */
  limitsOf(model: string): ModelLimits;
  /** The answer's share of the window is kept free. */
  budgetOf(model: string): ModelBudget;
  /** An unknown model may be able to do anything: it is tried and reports what it can't do. */
  can(model: string, ability: Capability): boolean;
};

/** The input and output budget of each model, for code that needs nothing else of the catalog. */
export type BudgetOf = Catalog["budgetOf"];

/**
 * Builds the catalog.
 * @param settings.prices as in AI_PRICES: added or replaced prices. Unreadable entries are ignored.
 * @param settings.inputTokens the most that any model receives, instead of the defaults; a known window still applies.
 */
export function createCatalog(
  settings: { prices?: string | undefined; inputTokens?: number | undefined } = {},
): Catalog {
  const { inputTokens } = settings;
  const find = (model: string) => families.find(({ prefix }) => model.startsWith(prefix));
  function limitsOf(model: string): ModelLimits {
    const { windowTokens = null, answerTokens = null } = findModelLimits(model) ?? find(model) ?? {};
    return { windowTokens, answerTokens };
  }
  return {
    prices: { ...listPrices, ...(settings.prices === undefined ? {} : parsePrices(settings.prices)) },
    limitsOf,
    budgetOf(model) {
      const { windowTokens, answerTokens } = limitsOf(model);
      if (windowTokens === null)
        return { inputTokens: inputTokens ?? INPUT_TOKENS_UNKNOWN, outputTokensMax: answerTokens };
      return {
        inputTokens: Math.min(windowTokens - (answerTokens ?? 0), inputTokens ?? INPUT_TOKENS_DEFAULT),
        outputTokensMax: answerTokens,
      };
    },
    can(model, ability) {
      if (ability === "thinking" && isKnownNotToThink(model)) return false;
      if (ability === "json_schema" && isKnownWithoutSchemas(model)) return false;
      return find(nameByMaker(model))?.abilities.includes(ability) ?? true;
    },
  };
}

/**
 * The model for background texts: the cheapest one with a known price, else the last of the chain. Null if only offline
 * models are configured, which can't write.
 */
export function findCheapestModel(models: readonly string[], prices: PriceTable): string | null {
  const writers = models.filter((model) => !model.startsWith("offline/"));
  const known = writers
    .map((model) => ({ model, price: findPrice(model, prices) }))
    .flatMap(({ model, price }) => (price ? [{ model, total: price.input + price.output }] : []))
    .sort((one, other) => one.total - other.total);
  return known[0]?.model ?? writers.at(-1) ?? null;
}
