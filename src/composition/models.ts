import { createChain } from "../ai/chain/chain.ts";
import { createCatalog, findCheapestModel } from "../ai/models.ts";
import { createProviders } from "../ai/providers/create-providers.ts";
import { createExplainFailure } from "../ai/providers/explain-failure.ts";
import { createGetTimeouts } from "../ai/timeouts.ts";
import type { DocumentService } from "../modules/documents/service.ts";
import type { Core } from "./core.ts";
import { createObserveAttempts } from "./observe-attempts.ts";

/** Creates the configured models with their providers, fallback order and prices. */
export function createModels(
  { config, log, metrics, findProxy, tracing }: Core,
  documents: Pick<DocumentService, "searchPassages">,
) {
  const catalog = createCatalog({ prices: config.AI_PRICES, inputTokens: config.AI_CONTEXT_TOKENS });
  const { prices, getBudget } = catalog;
  const observeRequests = {
    onRepeat(provider: string) {
      metrics.aiRepeatedRequests.inc({ provider });
      log.info({ provider }, "request sent again: the provider had closed the reused connection without a response");
    },
    onLearned: (model: string, parameter: string) =>
      log.info({ model, parameter }, "model refuses a parameter; it is left out from now on"),
  };
  const providers = createProviders(config, documents.searchPassages, observeRequests, findProxy);
  const chain = createChain({
    ...providers,
    catalog,
    getTimeouts: createGetTimeouts(config, (model) => catalog.hasCapability(model, "thinking")),
    answerTimeoutMs: config.AI_ANSWER_TIMEOUT_MS,
    maxRetries: config.AI_MAX_RETRIES,
    showsReasoning: config.AI_REASONING !== "off",
    log,
    explainFailure: createExplainFailure(config),
    observe: {
      onAttempt: createObserveAttempts({ metrics, tracing }),
      onFailover: (from, to, reason) => metrics.aiFailovers.inc({ from, to, reason }),
      onFirstToken: (model, seconds) => metrics.generationFirstToken.observe({ model }, seconds),
      onCost: (model, usd) => metrics.aiCostUsd.inc({ model }, usd),
      onTokens: (model, kind, count) => metrics.aiTokens.inc({ model, kind }, count),
    },
  });
  return { chain, getBudget, prices, names: providers.models, cheapest: findCheapestModel(providers.models, prices) };
}

export type Models = ReturnType<typeof createModels>;
