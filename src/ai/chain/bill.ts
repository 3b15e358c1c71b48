import { calculateRequestCostUsd, findPrice, type PriceTable } from "../../lib/prices.ts";
import type { RunUsage } from "../answer-part.ts";
import type { ChainObserver } from "../observer.ts";
import type { Usage } from "../provider.ts";
import { addUsage } from "../usage.ts";

/** What one attempt with a model costs, in US dollars; null when its price is not known. */
export function calculateCostUsd(model: string, usage: Usage, prices: PriceTable): number | null {
  const price = findPrice(model, prices);
  return price ? calculateRequestCostUsd(price, usage) : null;
}

/**
 * Sums the tokens and the money of one run, over all its attempts, also those that failed. The metrics are told here, so
 * that they count what is stored and charged.
 */
export function createBill(prices: PriceTable, observe: Pick<ChainObserver, "onTokens" | "onCost"> = {}) {
  let usage: RunUsage | null = null;
  let costUsd: number | null = 0;
  return {
    /** Adds an attempt; null: it has cost nothing. */
    add(model: string, used: RunUsage | null): void {
      if (!used) return;
      usage = addUsage(usage, used);
      const cost: number | null = calculateCostUsd(model, used, prices);
      observe.onTokens?.(model, "input", used.input_tokens);
      observe.onTokens?.(model, "output", used.output_tokens);
      if (used.reasoning_tokens > 0) observe.onTokens?.(model, "reasoning", used.reasoning_tokens);
      if (cost) observe.onCost?.(model, cost);
      costUsd = addCost(costUsd, cost);
    },
    /** The sum so far. The cost is null as soon as one part of it is not known. */
    sum: (): { usage: RunUsage | null; costUsd: number | null } => ({ usage, costUsd: usage && costUsd }),
  };
}

/** Not known as soon as one part of it is not. */
export const addCost = (one: number | null, other: number | null): number | null =>
  one === null || other === null ? null : one + other;
