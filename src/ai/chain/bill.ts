import { findPrice, type PriceTable } from "../../lib/prices.ts";
import type { RunUsage } from "../answer-part.ts";
import type { Usage } from "../provider.ts";

/** What a model's tokens cost, in US dollars; null when its price is not known. */
export function calculateCostUsd(model: string, usage: Usage, prices: PriceTable): number | null {
  const found = findPrice(model, prices);
  if (!found) return null;
  return (usage.input_tokens * found.input + usage.output_tokens * found.output) / 1_000_000;
}

/** Sums the tokens and the money of one run, over all its attempts. */
export function createBill(prices: PriceTable, onCost: (model: string, usd: number) => void = () => {}) {
  let usage: RunUsage | null = null;
  let costUsd: number | null = 0;
  return {
    /** Adds an attempt; null: it has cost nothing. */
    add(model: string, used: RunUsage | null): void {
      if (!used) return;
      usage ??= { input_tokens: 0, output_tokens: 0, estimated: false };
      usage.input_tokens += used.input_tokens;
      usage.output_tokens += used.output_tokens;
      usage.estimated ||= used.estimated;
      const cost: number | null = calculateCostUsd(model, used, prices);
      if (cost) onCost(model, cost);
      costUsd = addCost(costUsd, cost);
    },
    /** The sum so far. The cost is null as soon as one part of it is not known. */
    sum: (): { usage: RunUsage | null; costUsd: number | null } => ({ usage, costUsd: usage && costUsd }),
  };
}

/** Not known as soon as one part of it is not. */
export const addCost = (one: number | null, other: number | null): number | null =>
  one === null || other === null ? null : one + other;
