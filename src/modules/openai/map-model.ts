import type { ModelDetails } from "../../ai/describe-model.ts";
import type { Price } from "../../lib/prices.ts";
import type { OpenAiModel } from "./model-list.ts";

/** OpenAI's clients expect a creation time, but it is unknown. */
const CREATED_UNKNOWN = 0;

/** Maps a model to OpenAI's format, with OpenRouter's fields for its capabilities. */
export const mapToOpenAiModel = (
  { id, provider }: { id: string; provider: string },
  { contextTokens, answerTokensMax, parameters, price }: ModelDetails,
): OpenAiModel => ({
  id,
  object: "model",
  created: CREATED_UNKNOWN,
  owned_by: provider,
  context_length: contextTokens,
  max_completion_tokens: answerTokensMax,
  architecture: { modality: "text->text", input_modalities: ["text"], output_modalities: ["text"] },
  pricing: price && mapPrice(price),
  supported_parameters: [...parameters],
});

const mapPrice = ({ input, output, cached_input, cache_write }: Price) => ({
  prompt: formatPrice(input),
  completion: formatPrice(output),
  ...(cached_input !== undefined && { input_cache_read: formatPrice(cached_input) }),
  ...(cache_write !== undefined && { input_cache_write: formatPrice(cache_write) }),
});

/** Decimal places of a price per token, enough for a millionth of a cent per million tokens. */
const PRICE_DIGITS = 14;

/** Converts US dollars per million tokens to dollars per token, without an exponent. */
const formatPrice = (perMillion: number): string =>
  (perMillion / 1_000_000).toFixed(PRICE_DIGITS).replace(/\.?0+$/, "") || "0";
