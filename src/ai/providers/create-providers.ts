import { listProviders, type ProvidersConfig } from "../../config/list-providers.ts";
import type { Config } from "../../config.ts";
import { type FindProxy, noProxy } from "../../lib/outgoing/find-proxy.ts";
import type { Provider } from "../provider.ts";
import { createAnthropicProvider } from "./anthropic/provider.ts";
import { createCompatibleProvider } from "./compatible/provider.ts";
import { createOfflineProvider, OFFLINE_MODEL, type SearchDocuments } from "./offline/provider.ts";
import { createOpenAiProvider } from "./openai/provider.ts";
import type { RequestObserver } from "./request-observer.ts";

/** The settings that concern models, by their names in the environment; those of AI_PROVIDERS' servers have names of their own. */
export type AiConfig = ProvidersConfig & Pick<Config, "AI_MODELS">;

/** The same as `RequestObserver`, with the provider, or with the whole name of the model. */
export type ProvidersObserver = {
  onRepeat?(provider: string): void;
  onLearned?(model: string, parameter: string): void;
};

/**
 * The providers that are configured, and the models in fallback order; none: the only model is `offline/documents`.
 * @param observe hears what becomes of requests, beside their answers.
 * @param findProxy says which of their servers are reached by a proxy.
 */
export function createProviders(
  config: AiConfig,
  searchDocuments: SearchDocuments,
  observe: ProvidersObserver = {},
  findProxy: FindProxy = noProxy,
): { providers: Map<string, Provider>; models: string[] } {
  const models = config.AI_MODELS.length > 0 ? [...new Set(config.AI_MODELS)] : [OFFLINE_MODEL];
  const isAlone = models.every((model) => model.startsWith("offline/"));
  const observeOf = (provider: string): RequestObserver => ({
    onRepeat: () => observe.onRepeat?.(provider),
    onLearned: (model, parameter) => observe.onLearned?.(`${provider}/${model}`, parameter),
  });
  const list: Provider[] = [createOfflineProvider({ searchDocuments, isAlone })];
  for (const { name, apiKey, baseUrl, headers } of listProviders(config)) {
    const options = { baseUrl, headers, observe: observeOf(name), findProxy };
    if (name === "openai") {
      if (apiKey) list.push(createOpenAiProvider({ ...options, apiKey }));
    } else if (name === "anthropic") {
      if (apiKey) list.push(createAnthropicProvider({ ...options, apiKey }));
    } else if (baseUrl) list.push(createCompatibleProvider({ ...options, name, apiKey, baseUrl }));
  }
  return { providers: new Map(list.map((provider) => [provider.name, provider])), models };
}
