import { findByModel } from "../lib/model-names.ts";

export type ModelLimits = {
  /** Maximum tokens of the prompt and the answer together. Null if unknown or unlimited. */
  windowTokens: number | null;
  /** Maximum answer length in tokens. If null, the provider decides. */
  answerTokens: number | null;
};

const createModelLimits = (windowTokens: number, answerTokens: number): ModelLimits => ({ windowTokens, answerTokens });

const gptMillionWindow = createModelLimits(1_050_000, 128_000);
const gptChat = createModelLimits(128_000, 16_384);
const claudeMillionWindow = createModelLimits(1_000_000, 128_000);
const claude64k = createModelLimits(200_000, 64_000);
const claude32k = createModelLimits(200_000, 32_000);
const claude8k = createModelLimits(200_000, 8_192);
const claude4k = createModelLimits(200_000, 4_096);

/**
 * Limits of models that differ from those of their family, or that have no family. Taken from the providers' model pages.
 * The keys also match dated model names. A model rejects requests for an answer longer than its maximum.
 */
const modelLimits: Readonly<Record<string, ModelLimits>> = {
  "openai/gpt-5.6-terra": gptMillionWindow,
  "openai/gpt-5.6-luna": gptMillionWindow,
  "openai/gpt-5.6-sol": gptMillionWindow,
  "openai/gpt-5.5": gptMillionWindow,
  "openai/gpt-5.5-pro": gptMillionWindow,
  "openai/gpt-5.4": gptMillionWindow,
  "openai/gpt-5.4-pro": gptMillionWindow,
  "openai/gpt-5-pro": createModelLimits(400_000, 272_000),
  "openai/gpt-5-chat-latest": gptChat,
  "openai/gpt-5.1-chat-latest": gptChat,
  "openai/gpt-5.2-chat-latest": gptChat,
  "openai/gpt-5.3-chat-latest": gptChat,
  "openai/gpt-4o-2024-05-13": createModelLimits(128_000, 4_096),
  "openai/gpt-4-turbo": createModelLimits(128_000, 4_096),
  // Half of the window. The model's own maximum is the whole window, which would leave no tokens for the prompt.
  "openai/gpt-4": createModelLimits(8_192, 4_096),
  "openai/gpt-4-0613": createModelLimits(8_192, 4_096),
  "openai/gpt-3.5-turbo": createModelLimits(16_385, 4_096),
  "openai/gpt-3.5-turbo-0125": createModelLimits(16_385, 4_096),
  "openai/gpt-3.5-turbo-1106": createModelLimits(16_385, 4_096),
  "openai/o1": createModelLimits(200_000, 100_000),
  "openai/o1-pro": createModelLimits(200_000, 100_000),
  "anthropic/claude-fable-5-1": claudeMillionWindow,
  "anthropic/claude-fable-5": claudeMillionWindow,
  "anthropic/claude-opus-5-5": claudeMillionWindow,
  "anthropic/claude-opus-5": claudeMillionWindow,
  "anthropic/claude-opus-4-8": claudeMillionWindow,
  "anthropic/claude-opus-4-7": claudeMillionWindow,
  "anthropic/claude-opus-4-6": claudeMillionWindow,
  "anthropic/claude-opus-4-5": claude64k,
  "anthropic/claude-opus-4-1": claude32k,
  "anthropic/claude-opus-4": claude32k,
  "anthropic/claude-opus-4-0": claude32k,
  "anthropic/claude-sonnet-5-5": claudeMillionWindow,
  "anthropic/claude-sonnet-5": claudeMillionWindow,
  "anthropic/claude-sonnet-4-6": createModelLimits(1_000_000, 64_000),
  "anthropic/claude-sonnet-4-5": claude64k,
  "anthropic/claude-sonnet-4": claude64k,
  "anthropic/claude-sonnet-4-0": claude64k,
  "anthropic/claude-haiku-5-5": claudeMillionWindow,
  "anthropic/claude-haiku-4-5": claude64k,
  "anthropic/claude-3-7-sonnet": claude64k,
  "anthropic/claude-3-5-sonnet": claude8k,
  "anthropic/claude-3-5-haiku": claude8k,
  "anthropic/claude-3-opus": claude4k,
  "anthropic/claude-3-sonnet": claude4k,
  "anthropic/claude-3-haiku": claude4k,
};

/** Returns a model's own limits, or undefined if its family's limits apply. */
export const findModelLimits = (model: string): ModelLimits | undefined => findByModel(model, modelLimits);
