import { parsePrices } from "../lib/parse-prices.ts";
import { findPrice, type PriceTable } from "../lib/prices.ts";
import { findModelLimits, type ModelLimits } from "./model-limits.ts";
import { isKnownNotToThink, isKnownWithoutSchemas, nameByMaker } from "./model-traits.ts";
import { listPrices } from "./price-list.ts";
import type { AnswerFormat } from "./provider.ts";

/**
 * What a model can do; `thinking`: it may think before it answers, and be silent meanwhile; `json_object`, `json_schema`: it
 * answers in that format, since its provider can force it or since it is told to. A family tells what most of its
 * models can; model-traits.ts knows those that differ.
 */
type Ability = "tools" | "images" | "thinking" | AnswerFormat["type"];

const formats = ["json_object", "json_schema"] as const satisfies Ability[];

/** Models that have abilities and, mostly, limits in common (model-limits.ts has those that differ). */
type Family = ModelLimits & {
  /** How the names of its models begin (`provider/name`). */
  prefix: string;
  abilities: readonly Ability[];
};

/**
 * What Parley knows of models by their names, beside their prices (price-list.ts); checked in November 2026. The first
 * family whose prefix fits counts, so a new version has the window of its family at once.
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
    // What every Claude since version 4 can give; those before it have limits of their own.
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
  /** What the model itself can take and give. */
  limitsOf(model: string): ModelLimits;
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
