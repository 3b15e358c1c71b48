import { listProviders, type PartialSettings } from "../../config/list-providers.ts";
import type { Config } from "../../config.ts";
import { type FindProxy, noProxy } from "../../lib/outgoing/find-proxy.ts";
import type { Provider } from "../provider.ts";
import { createAnthropicProvider } from "./anthropic/provider.ts";
import { createCompatibleProvider } from "./compatible/provider.ts";
import { createOfflineProvider, OFFLINE_MODEL, type SearchDocuments } from "./offline/provider.ts";
import { createOpenAiProvider } from "./openai/provider.ts";
import type { RequestObserver } from "./request-observer.ts";

/** The settings of models and providers. */
export type AiConfig = PartialSettings & Pick<Config, "AI_MODELS">;

/** Like `RequestObserver`, with the provider's name or the full model name. */
export type ProvidersObserver = {
  onRepeat?(provider: string): void;
  onLearned?(model: string, parameter: string): void;
};

/**
 * Creates the configured providers and the list of models in fallback order. If no model is configured, the list contains
 * only `offline/documents`.
 * @param findProxy returns the proxy for a server, if one is needed.
 */
export function createProviders(
  config: AiConfig,
  searchDocuments: SearchDocuments,
  observe: ProvidersObserver = {},
  findProxy: FindProxy = noProxy,
): { providers: Map<string, Provider>; models: string[] } {
  const models = config.AI_MODELS.length > 0 ? [...new Set(config.AI_MODELS)] : [OFFLINE_MODEL];
  const isOnlyProvider = models.every((model) => model.startsWith("offline/"));
  const createObserver = (provider: string): RequestObserver => ({
    onRepeat: () => observe.onRepeat?.(provider),
    onLearned: (model, parameter) => observe.onLearned?.(`${provider}/${model}`, parameter),
  });
  const list: Provider[] = [createOfflineProvider({ searchDocuments, isOnlyProvider })];
  for (const { name, apiKey, baseUrl, headers } of listProviders(config)) {
    const options = { baseUrl, headers, observe: createObserver(name), findProxy };
    if (name === "openai") {
      if (apiKey) list.push(createOpenAiProvider({ ...options, apiKey }));
    } else if (name === "anthropic") {
      if (apiKey) list.push(createAnthropicProvider({ ...options, apiKey }));
    } else if (baseUrl) list.push(createCompatibleProvider({ ...options, name, apiKey, baseUrl }));
  }
  return { providers: new Map(list.map((provider) => [provider.name, provider])), models };
}
