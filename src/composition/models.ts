import { createChain } from "../ai/chain/chain.ts";
import { createCatalogue, findCheapestModel } from "../ai/models.ts";
import { createProviders } from "../ai/providers/create-providers.ts";
import type { DocumentService } from "../modules/documents/service.ts";
import type { Core } from "./core.ts";

/** The models that the configuration names: whom to ask, in which order, at what price. */
export function createModels({ config, log, metrics }: Core, documents: Pick<DocumentService, "searchPassages">) {
  const catalogue = createCatalogue({ prices: config.AI_PRICES, inputTokens: config.AI_CONTEXT_TOKENS });
  const { prices, budgetOf } = catalogue;
  const providers = createProviders(config, documents.searchPassages);
  const chain = createChain({
    ...providers,
    catalogue,
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
