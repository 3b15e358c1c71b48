import { findByModel } from "../lib/model-names.ts";

export type ModelLimits = {
  /** Tokens of prompt and answer together; null: no window, or unknown. */
  windowTokens: number | null;
  /** Maximum answer length in tokens; null: the provider decides. */
  answerTokens: number | null;
};

const limit = (windowTokens: number, answerTokens: number): ModelLimits => ({ windowTokens, answerTokens });

const gptWithMillion = limit(1_050_000, 128_000);
const gptChat = limit(128_000, 16_384);
const claudeWithMillion = limit(1_000_000, 128_000);
const claude64k = limit(200_000, 64_000);
const claude32k = limit(200_000, 32_000);
const claude8k = limit(200_000, 8_192);
const claude4k = limit(200_000, 4_096);

/**
 * Limits of single models that differ from their family or have none: by exact or dated name, from the providers' model
 * pages. A model rejects a request for a longer answer than its maximum.
 */
const modelLimits: Readonly<Record<string, ModelLimits>> = {
  "openai/gpt-5.6-terra": gptWithMillion,
  "openai/gpt-5.6-luna": gptWithMillion,
  "openai/gpt-5.6-sol": gptWithMillion,
  "openai/gpt-5.5": gptWithMillion,
  "openai/gpt-5.5-pro": gptWithMillion,
  "openai/gpt-5.4": gptWithMillion,
  "openai/gpt-5.4-pro": gptWithMillion,
  "openai/gpt-5-pro": limit(400_000, 272_000),
  "openai/gpt-5-chat-latest": gptChat,
  "openai/gpt-5.1-chat-latest": gptChat,
  "openai/gpt-5.2-chat-latest": gptChat,
  "openai/gpt-5.3-chat-latest": gptChat,
  "openai/gpt-4o-2024-05-13": limit(128_000, 4_096),
  "openai/gpt-4-turbo": limit(128_000, 4_096),
  // Half of the window: its maximum answer is as long as the window, which would leave no room for a prompt.
  "openai/gpt-4": limit(8_192, 4_096),
  "openai/gpt-4-0613": limit(8_192, 4_096),
  "openai/gpt-3.5-turbo": limit(16_385, 4_096),
  "openai/gpt-3.5-turbo-0125": limit(16_385, 4_096),
  "openai/gpt-3.5-turbo-1106": limit(16_385, 4_096),
  "openai/o1": limit(200_000, 100_000),
  "openai/o1-pro": limit(200_000, 100_000),
  "anthropic/claude-fable-5-1": claudeWithMillion,
  "anthropic/claude-fable-5": claudeWithMillion,
  "anthropic/claude-opus-5-5": claudeWithMillion,
  "anthropic/claude-opus-5": claudeWithMillion,
  "anthropic/claude-opus-4-8": claudeWithMillion,
  "anthropic/claude-opus-4-7": claudeWithMillion,
  "anthropic/claude-opus-4-6": claudeWithMillion,
  "anthropic/claude-opus-4-5": claude64k,
  "anthropic/claude-opus-4-1": claude32k,
  "anthropic/claude-opus-4": claude32k,
  "anthropic/claude-opus-4-0": claude32k,
  "anthropic/claude-sonnet-5-5": claudeWithMillion,
  "anthropic/claude-sonnet-5": claudeWithMillion,
  "anthropic/claude-sonnet-4-6": limit(1_000_000, 64_000),
  "anthropic/claude-sonnet-4-5": claude64k,
  "anthropic/claude-sonnet-4": claude64k,
  "anthropic/claude-sonnet-4-0": claude64k,
  "anthropic/claude-haiku-5-5": claudeWithMillion,
  "anthropic/claude-haiku-4-5": claude64k,
  "anthropic/claude-3-7-sonnet": claude64k,
  "anthropic/claude-3-5-sonnet": claude8k,
  "anthropic/claude-3-5-haiku": claude8k,
  "anthropic/claude-3-opus": claude4k,
  "anthropic/claude-3-sonnet": claude4k,
  "anthropic/claude-3-haiku": claude4k,
};

/** Undefined: the family's limits apply. */
export const findModelLimits = (model: string): ModelLimits | undefined => findByModel(model, modelLimits);
