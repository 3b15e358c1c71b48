import { listProviders, type ProvidersConfig } from "../../config/list-providers.ts";
import type { Config } from "../../config.ts";
import { type FindProxy, noProxy } from "../../lib/outgoing/find-proxy.ts";
import type { Provider } from "../provider.ts";
import { createAnthropicProvider } from "./anthropic/provider.ts";
import { createCompatibleProvider } from "./compatible/provider.ts";
import { createOfflineProvider, OFFLINE_MODEL, type SearchDocuments } from "./offline/provider.ts";
import { createOpenAiProvider } from "./openai/provider.ts";
import type { RequestObserver } from "./request-observer.ts";

/** The model settings by environment name; servers in AI_PROVIDERS have their own names. */
export type AiConfig = ProvidersConfig & Pick<Config, "AI_MODELS">;

/** Like `RequestObserver`, with the provider or the full model name. */
export type ProvidersObserver = {
  onRepeat?(provider: string): void;
  onLearned?(model: string, parameter: string): void;
};

/**
 * Creates the configured providers and the models in fallback order. Without any, the only model is `offline/documents`.
 * @param observe receives events about requests.
 * @param findProxy returns the proxy of a server, if it needs one.
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
