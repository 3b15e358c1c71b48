import { createChain } from "../ai/chain/chain.ts";
import { createCatalog, findCheapestModel } from "../ai/models.ts";
import { createProviders } from "../ai/providers/create-providers.ts";
import { createFailureExplainer } from "../ai/providers/explain-failure.ts";
import { createTimeoutLookup } from "../ai/timeouts.ts";
import type { DocumentService } from "../modules/documents/service.ts";
import type { Core } from "./core.ts";
import { createAttemptObserver } from "./observe-attempts.ts";

/** Creates the configured models with their providers, fallback order and prices. */
export function createModelServices(
  { config, log, metrics, findProxy, tracing }: Core,
  documents: Pick<DocumentService, "searchPassages">,
) {
  const catalog = createCatalog({ prices: config.AI_PRICES, inputTokens: config.AI_CONTEXT_TOKENS });
  const { prices, getBudget } = catalog;
  const requestObserver = {
    onResend(provider: string) {
      metrics.aiRepeatedRequests.inc({ provider });
      log.info({ provider }, "request sent again: the provider had closed the reused connection without a response");
    },
    onParameterRejected: (model: string, parameter: string) =>
      log.info({ model, parameter }, "model rejects a parameter; it is omitted from now on"),
  };
  const providers = createProviders(config, documents.searchPassages, requestObserver, findProxy);
  const chain = createChain({
    ...providers,
    catalog,
    getTimeouts: createTimeoutLookup(config, (model) => catalog.hasCapability(model, "thinking")),
    answerTimeoutMs: config.AI_ANSWER_TIMEOUT_MS,
    maxRetries: config.AI_MAX_RETRIES,
    shouldShowReasoning: config.AI_REASONING !== "off",
    log,
    explainFailure: createFailureExplainer(config),
    observer: {
      onAttempt: createAttemptObserver({ metrics, tracing }),
      onFailover: (from, to, reason) => metrics.aiFailovers.inc({ from, to, reason }),
      onFirstToken: (model, seconds) => metrics.generationFirstToken.observe({ model }, seconds),
      onCost: (model, usd) => metrics.aiCostUsd.inc({ model }, usd),
      onTokens: (model, kind, count) => metrics.aiTokens.inc({ model, kind }, count),
    },
  });
  return {
    chain,
    getBudget,
    prices,
    modelNames: providers.models,
    cheapestModel: findCheapestModel(providers.models, prices),
  };
}

export type Models = ReturnType<typeof createModelServices>;
