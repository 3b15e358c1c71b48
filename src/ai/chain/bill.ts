import { calculateRequestCostUsd, findPrice, type PriceTable } from "../../lib/prices.ts";
import type { RunUsage } from "../answer-part.ts";
import type { ChainObserver } from "../observer.ts";
import type { Usage } from "../provider.ts";
import { addUsage } from "../usage.ts";

/** The cost of one attempt in US dollars; null if the model's price is unknown. */
export function calculateCostUsd(model: string, usage: Usage, prices: PriceTable): number | null {
  const price = findPrice(model, prices);
  return price ? calculateRequestCostUsd(price, usage) : null;
}

/**
 * Sums the tokens and the cost of all attempts of a run, including failed ones. Also reports them to the metrics, so that
 * the metrics match what is stored and charged.
 */
export function createBill(prices: PriceTable, observe: Pick<ChainObserver, "onTokens" | "onCost"> = {}) {
  let usage: RunUsage | null = null;
  let costUsd: number | null = 0;
  return {
    /** Adds an attempt; null: it was free. */
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
    /** The total so far. The cost is null if any part of it is unknown. */
    sum: (): { usage: RunUsage | null; costUsd: number | null } => ({ usage, costUsd: usage && costUsd }),
  };
}

/** Null if either cost is unknown. */
export const addCost = (one: number | null, other: number | null): number | null =>
  one === null || other === null ? null : one + other;
