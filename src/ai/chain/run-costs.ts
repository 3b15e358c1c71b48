import type { RunCosts } from "../answer-part.ts";
import { addUsage } from "../usage.ts";
import { addCost } from "./bill.ts";

/** Sums the accounts of several runs. */
export function createCostTotal() {
  const total: RunCosts = { models: [], usage: null, costUsd: null };
  return {
    add({ models, usage, costUsd }: RunCosts): void {
      for (const model of models) if (!total.models.includes(model)) total.models.push(model);
      if (!usage) return;
      const before = total.usage;
      total.costUsd = before === null ? costUsd : addCost(total.costUsd, costUsd);
      total.usage = addUsage(before, usage);
    },
    sum: (): RunCosts => ({ ...total, models: [...total.models] }),
  };
}
