import type { RunCosts } from "../answer-part.ts";
import { addUsage } from "../usage.ts";
import { addCost } from "./bill.ts";

/** Sums the costs of several runs. */
export function createCostTotal() {
  const total: RunCosts = { models: [], usage: null, costUsd: null };
  return {
    add({ models, usage, costUsd }: RunCosts): void {
      for (const model of models) if (!total.models.includes(model)) total.models.push(model);
      if (!usage) return;
      const previousUsage = total.usage;
      total.costUsd = previousUsage === null ? costUsd : addCost(total.costUsd, costUsd);
      total.usage = addUsage(previousUsage, usage);
    },
    getTotal: (): RunCosts => ({ ...total, models: [...total.models] }),
  };
}
