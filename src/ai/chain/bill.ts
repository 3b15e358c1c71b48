import { calculateRequestCostUsd, findPrice, type PriceTable } from "../../lib/prices.ts";
import type { RunUsage } from "../answer-part.ts";
import type { ChainObserver } from "../observer.ts";
import type { Usage } from "../provider.ts";
import { addUsage } from "../usage.ts";

/** Returns an attempt's cost in US dollars, or null if the model's price is unknown. */
export function calculateCostUsd(model: string, usage: Usage, prices: PriceTable): number | null {
  const price = findPrice(model, prices);
  return price ? calculateRequestCostUsd(price, usage) : null;
}

/**
 * Sums the tokens and the cost of a run's attempts, including failed ones. Also reports both as metrics, so that the metrics
 * match what is stored and charged.
 */
export function createBill(prices: PriceTable, observer: Pick<ChainObserver, "onTokens" | "onCost"> = {}) {
  let usage: RunUsage | null = null;
  let costUsd: number | null = 0;
  return {
    /** Adds an attempt. It was free if `attemptUsage` is null. */
    add(model: string, attemptUsage: RunUsage | null): void {
      if (!attemptUsage) return;
      usage = addUsage(usage, attemptUsage);
      const cost: number | null = calculateCostUsd(model, attemptUsage, prices);
      observer.onTokens?.(model, "input", attemptUsage.input_tokens);
      observer.onTokens?.(model, "output", attemptUsage.output_tokens);
      if (attemptUsage.reasoning_tokens > 0) observer.onTokens?.(model, "reasoning", attemptUsage.reasoning_tokens);
      if (cost) observer.onCost?.(model, cost);
      costUsd = addCost(costUsd, cost);
    },
    /** Returns the total. The cost is null if the cost of any attempt is unknown. */
    getTotal: (): { usage: RunUsage | null; costUsd: number | null } => ({ usage, costUsd: usage && costUsd }),
  };
}

/** Adds two costs. The sum is null if either cost is unknown. */
export const addCost = (a: number | null, b: number | null): number | null => (a === null || b === null ? null : a + b);
