import { parsePrices } from "../lib/parse-prices.ts";
import { findPrice, type PriceTable } from "../lib/prices.ts";
import { findModelLimits, type ModelLimits } from "./model-limits.ts";
import { isKnownNotToThink, isKnownToLackSchemas, toVendorModelName } from "./model-traits.ts";
import { pricesByModel } from "./price-list.ts";
import type { AnswerFormat } from "./provider.ts";

/**
 * A capability of a model. A model with `thinking` may be silent for minutes before it answers. A model with `json_object`
 * or `json_schema` can answer in that format: the provider enforces it, or the model is instructed to follow it.
 */
type Capability = "tools" | "images" | "thinking" | AnswerFormat["type"];

const formats = ["json_object", "json_schema"] as const satisfies Capability[];

/** Models with the same capabilities and limits. Exceptions are in model-traits.ts and model-limits.ts. */
type Family = ModelLimits & {
  /** The start of its models' names (`provider/name`). */
  prefix: string;
  capabilities: readonly Capability[];
};

/**
 * The known model families, checked in November 2026. The first matching prefix applies, so a new version has its family's
 * limits.
 */
const families: readonly Family[] = [
  {
    prefix: "openai/gpt-6",
    windowTokens: 1_050_000,
    answerTokens: 128_000,
    capabilities: ["tools", "images", "thinking", ...formats],
  },
  {
    prefix: "openai/gpt-5",
    windowTokens: 400_000,
    answerTokens: 128_000,
    capabilities: ["tools", "images", "thinking", ...formats],
  },
  {
    prefix: "openai/gpt-4.1",
    windowTokens: 1_047_576,
    answerTokens: 32_768,
    capabilities: ["tools", "images", ...formats],
  },
  {
    prefix: "openai/gpt-4o",
    windowTokens: 128_000,
    answerTokens: 16_384,
    capabilities: ["tools", "images", ...formats],
  },
  {
    prefix: "openai/o3",
    windowTokens: 200_000,
    answerTokens: 100_000,
    capabilities: ["tools", "images", "thinking", ...formats],
  },
  {
    prefix: "openai/o4-mini",
    windowTokens: 200_000,
    answerTokens: 100_000,
    capabilities: ["tools", "images", "thinking", ...formats],
  },
  {
    prefix: "anthropic/claude-",
    windowTokens: 200_000,
    // The lowest maximum of all models from Claude 4 on. Earlier models are in model-limits.ts.
    answerTokens: 32_000,
    capabilities: ["tools", "images", "thinking", ...formats],
  },
  {
    prefix: "offline/",
    windowTokens: null,
    answerTokens: null,
    capabilities: [],
  },
];

/** Maximum size of a request to a model and of its answer, in tokens. */
type ModelBudget = {
  inputTokens: number;
  /** The maximum answer length to request. If null, the provider decides. */
  outputTokensMax: number | null;
};

/**
 * Default for the maximum tokens of a conversation that are sent to a model. Models accept more, but each message would cost
 * more without making the answers better.
 */
export const INPUT_TOKENS_DEFAULT = 64_000;
/** The default for models with an unknown window. Leaves 4,384 tokens for the answer if the window has 16,384. */
export const INPUT_TOKENS_UNKNOWN = 12_000;

/** The properties of all models, with the operator's settings applied. Models are named `provider/name`. */
export type Catalog = {
  /** Configured prices, and list prices for all other models. */
  prices: PriceTable;
  getLimits(model: string): ModelLimits;
  /** Returns the model's budget. The input leaves enough of the window for the longest answer. */
  getBudget(model: string): ModelBudget;
  /** Whether a model has a capability. True for unknown models: they are tried and may fail. */
  hasCapability(model: string, capability: Capability): boolean;
};

export type GetBudget = Catalog["getBudget"];

/**
 * Creates the catalog.
 * @param settings.prices the value of AI_PRICES. Invalid entries are ignored.
 * @param settings.inputTokens replaces the default maximum input. A smaller window still applies.
 */
export function createCatalog(
  settings: { prices?: string | undefined; inputTokens?: number | undefined } = {},
): Catalog {
  const { inputTokens } = settings;
  const findFamily = (model: string) => families.find(({ prefix }) => model.startsWith(prefix));
  function getLimits(model: string): ModelLimits {
    const { windowTokens = null, answerTokens = null } = findModelLimits(model) ?? findFamily(model) ?? {};
    return { windowTokens, answerTokens };
  }
  return {
    prices: { ...pricesByModel, ...(settings.prices === undefined ? {} : parsePrices(settings.prices)) },
    getLimits,
    getBudget(model) {
      const { windowTokens, answerTokens } = getLimits(model);
      if (windowTokens === null)
        return { inputTokens: inputTokens ?? INPUT_TOKENS_UNKNOWN, outputTokensMax: answerTokens };
      return {
        inputTokens: Math.min(windowTokens - (answerTokens ?? 0), inputTokens ?? INPUT_TOKENS_DEFAULT),
        outputTokensMax: answerTokens,
      };
    },
    hasCapability(model, capability) {
      if (capability === "thinking" && isKnownNotToThink(model)) return false;
      if (capability === "json_schema" && isKnownToLackSchemas(model)) return false;
      return findFamily(toVendorModelName(model))?.capabilities.includes(capability) ?? true;
    },
  };
}

/**
 * Returns the cheapest model with a known price, or the last model if no price is known. Returns null if only offline models
 * are configured, because those can't write text of their own.
 */
export function findCheapestModel(models: readonly string[], prices: PriceTable): string | null {
  const writers = models.filter((model) => !model.startsWith("offline/"));
  const pricedModels = writers
    .map((model) => ({ model, price: findPrice(model, prices) }))
    .flatMap(({ model, price }) => (price ? [{ model, total: price.input + price.output }] : []))
    .sort((a, b) => a.total - b.total);
  return pricedModels[0]?.model ?? writers.at(-1) ?? null;
}
