import { createChain } from "../ai/chain.ts";
import { findCheapestModel } from "../ai/cheapest-model.ts";
import { createProviders } from "../ai/create-providers.ts";
import { createBudgetOf } from "../ai/model-budget.ts";
import { mergePrices } from "../lib/prices.ts";
import type { DocumentService } from "../modules/documents/service.ts";
import type { Core } from "./core.ts";

/** The models that the configuration names: whom to ask, in which order, at what price. */
export function createModels({ config, log, metrics }: Core, documents: Pick<DocumentService, "searchPassages">) {
  const prices = mergePrices(config.AI_PRICES);
  const providers = createProviders(config, documents.searchPassages);
  const budgetOf = createBudgetOf(config.AI_CONTEXT_TOKENS);
  const chain = createChain({
    ...providers,
    prices,
    budgetOf,
    firstTokenTimeoutMs: config.AI_FIRST_TOKEN_TIMEOUT_MS,
    idleTimeoutMs: config.AI_IDLE_TIMEOUT_MS,
    maxRetries: config.AI_MAX_RETRIES,
    log,
    observe: {
      onFailover: (from, to, reason) => metrics.aiFailovers.inc({ from, to, reason }),
      onFirstToken: (model, seconds) => metrics.generationFirstToken.observe({ model }, seconds),
      onCost: (model, usd) => metrics.aiCostUsd.inc({ model }, usd),
      onTokens: (model, kind, count) => metrics.aiTokens.inc({ model, kind }, count),
    },
  });
  return { chain, budgetOf, prices, names: providers.models, cheapest: findCheapestModel(providers.models, prices) };
}

export type Models = ReturnType<typeof createModels>;
