import type { Config } from "../../config.ts";
import type { Provider } from "../provider.ts";
import { createAnthropicProvider } from "./anthropic/provider.ts";
import { createCompatibleProvider } from "./compatible/provider.ts";
import { createOfflineProvider, OFFLINE_MODEL, type SearchDocuments } from "./offline/provider.ts";
import { createOpenAiProvider } from "./openai/provider.ts";
import type { RequestObserver } from "./request-observer.ts";

/** The settings that concern models, by their names in the environment. */
export type AiConfig = Pick<
  Config,
  | "OPENAI_API_KEY"
  | "OPENAI_BASE_URL"
  | "ANTHROPIC_API_KEY"
  | "ANTHROPIC_BASE_URL"
  | "COMPATIBLE_API_KEY"
  | "COMPATIBLE_BASE_URL"
  | "AI_MODELS"
>;

/** The same as `RequestObserver`, with the provider, or with the whole name of the model. */
export type ProvidersObserver = {
  onRepeat?(provider: string): void;
  onLearned?(model: string, parameter: string): void;
};

/**
 * The providers that are configured, and the models in fallback order; none: the only model is `offline/documents`.
 * @param observe hears what becomes of requests, beside their answers.
 */
export function createProviders(
  config: AiConfig,
  searchDocuments: SearchDocuments,
  observe: ProvidersObserver = {},
): { providers: Map<string, Provider>; models: string[] } {
  const models = config.AI_MODELS.length > 0 ? [...new Set(config.AI_MODELS)] : [OFFLINE_MODEL];
  const isAlone = models.every((model) => model.startsWith("offline/"));
  const observeOf = (provider: string): RequestObserver => ({
    onRepeat: () => observe.onRepeat?.(provider),
    onLearned: (model, parameter) => observe.onLearned?.(`${provider}/${model}`, parameter),
  });
  const list: Provider[] = [createOfflineProvider({ searchDocuments, isAlone })];
  const { OPENAI_API_KEY, ANTHROPIC_API_KEY, COMPATIBLE_API_KEY, COMPATIBLE_BASE_URL } = config;
  if (OPENAI_API_KEY) {
    const options = { apiKey: OPENAI_API_KEY, baseUrl: config.OPENAI_BASE_URL };
    list.push(createOpenAiProvider({ ...options, observe: observeOf("openai") }));
  }
  if (ANTHROPIC_API_KEY) {
    const options = { apiKey: ANTHROPIC_API_KEY, baseUrl: config.ANTHROPIC_BASE_URL };
    list.push(createAnthropicProvider({ ...options, observe: observeOf("anthropic") }));
  }
  if (COMPATIBLE_BASE_URL) {
    const options = { apiKey: COMPATIBLE_API_KEY, baseUrl: COMPATIBLE_BASE_URL };
    list.push(createCompatibleProvider({ ...options, observe: observeOf("compatible") }));
  }
  return { providers: new Map(list.map((provider) => [provider.name, provider])), models };
}
