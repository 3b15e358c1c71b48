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
  onResend?(provider: string): void;
  onParameterRejected?(model: string, parameter: string): void;
};

/**
 * Creates the configured providers and the list of models in fallback order. If no model is configured, the list contains
 * only `offline/documents`.
 * @param findProxy returns the proxy for a server, if one is needed.
 */
export function createProviders(
  config: AiConfig,
  searchDocuments: SearchDocuments,
  observer: ProvidersObserver = {},
  findProxy: FindProxy = noProxy,
): { providers: Map<string, Provider>; models: string[] } {
  const models = config.AI_MODELS.length > 0 ? [...new Set(config.AI_MODELS)] : [OFFLINE_MODEL];
  const isOnlyProvider = models.every((model) => model.startsWith("offline/"));
  const createObserver = (provider: string): RequestObserver => ({
    onResend: () => observer.onResend?.(provider),
    onParameterRejected: (model, parameter) => observer.onParameterRejected?.(`${provider}/${model}`, parameter),
  });
  const providers: Provider[] = [createOfflineProvider({ searchDocuments, isOnlyProvider })];
  for (const { name, apiKey, baseUrl, headers } of listProviders(config)) {
    const options = { baseUrl, headers, observer: createObserver(name), findProxy };
    if (name === "openai") {
      if (apiKey) providers.push(createOpenAiProvider({ ...options, apiKey }));
    } else if (name === "anthropic") {
      if (apiKey) providers.push(createAnthropicProvider({ ...options, apiKey }));
    } else if (baseUrl) providers.push(createCompatibleProvider({ ...options, name, apiKey, baseUrl }));
  }
  return { providers: new Map(providers.map((provider) => [provider.name, provider])), models };
}
