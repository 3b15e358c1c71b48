import { findPrice, type PriceTable } from "../lib/prices.ts";
import type { Usage } from "./provider.ts";

export { defaultPrices, type Price, type PriceTable } from "../lib/prices.ts";

/** What a model's tokens cost, in US dollars; null when its price is not known. */
export function calculateCostUsd(model: string, usage: Usage, prices: PriceTable): number | null {
  const found = findPrice(model, prices);
  if (!found) return null;
  return (usage.input_tokens * found.input + usage.output_tokens * found.output) / 1_000_000;
}
