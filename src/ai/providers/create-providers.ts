import type { Config } from "../../config.ts";
import type { Provider } from "../provider.ts";
import { createAnthropicProvider } from "./anthropic/provider.ts";
import { createCompatibleProvider } from "./compatible/provider.ts";
import { createOfflineProvider, OFFLINE_MODEL, type SearchDocuments } from "./offline/provider.ts";
import { createOpenAiProvider } from "./openai/provider.ts";

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

/**
 * The providers that are configured, and the models in fallback order. Without `AI_MODELS` the only model is
 * `offline/documents`, even when a key is set: which model to pay for is not Parley's choice.
 */
export function createProviders(
  config: AiConfig,
  searchDocuments: SearchDocuments,
): { providers: Map<string, Provider>; models: string[] } {
  const models = config.AI_MODELS.length > 0 ? [...new Set(config.AI_MODELS)] : [OFFLINE_MODEL];
  const isAlone = models.every((model) => model.startsWith("offline/"));
  const list: Provider[] = [createOfflineProvider({ searchDocuments, isAlone })];
  if (config.OPENAI_API_KEY)
    list.push(createOpenAiProvider({ apiKey: config.OPENAI_API_KEY, baseUrl: config.OPENAI_BASE_URL }));
  if (config.ANTHROPIC_API_KEY)
    list.push(createAnthropicProvider({ apiKey: config.ANTHROPIC_API_KEY, baseUrl: config.ANTHROPIC_BASE_URL }));
  if (config.COMPATIBLE_BASE_URL)
    list.push(createCompatibleProvider({ apiKey: config.COMPATIBLE_API_KEY, baseUrl: config.COMPATIBLE_BASE_URL }));
  return { providers: new Map(list.map((provider) => [provider.name, provider])), models };
}
