import type { RunEnd, RunFailure } from "../../ai/answer-part.ts";
import { createOpenAiError, type OpenAiError } from "../../http/openai-error.ts";
import type { ErrorCode } from "../../lib/error-codes.ts";

/** When to retry after a shutdown cut an answer off: another instance can serve it immediately. */
const DRAINING_RETRY_AFTER_MS = 1_000;

const stopped = createOpenAiError(503, "draining", "The response was stopped because the server is shutting down.", {
  retryAfterMs: DRAINING_RETRY_AFTER_MS,
});

/** Maps a run that ended without an answer to OpenAI's error format. */
export function mapEndToOpenAiError(end: Exclude<RunEnd, { type: "finish" }>): OpenAiError {
  return end.type === "error" ? mapFailureToOpenAiError(end) : stopped;
}

/**
 * Provider statuses that concern the request; clients receive them unchanged. Not 409: it is temporary, and would be stored
 * under an `Idempotency-Key`.
 */
const passedStatuses = new Set([400, 404, 413, 415, 422, 429]);
const PAYMENT_REQUIRED = 402;

const statuses: Partial<Record<RunFailure["code"], number>> = {
  provider_refused: 400,
  provider_rate_limited: 429,
};

/**
 * Maps a model's failure. If the request is at fault, it keeps the provider's status, code, parameter and `Retry-After`. If
 * this server is at fault (its credentials), nothing of the provider's is shown: a 401 with `invalid_api_key` would make
 * clients doubt their own key.
 */
function mapFailureToOpenAiError(failure: RunFailure): OpenAiError {
  const { code, detail, status, param, retryAfterMs } = failure;
  const providerCode = nameOf(failure.providerCode);
  if (code === "provider_unauthorized") return createOpenAiError(503, code, detail);
  if (code === "invalid_output") return createOpenAiError(502, code, detail);
  if (code === "provider_timeout") return createOpenAiError(504, code, detail, { retryAfterMs });
  if (status === PAYMENT_REQUIRED || providerCode === "insufficient_quota")
    return createOpenAiError(429, "insufficient_quota", messages.insufficient_quota, { retryAfterMs });
  const shown = status !== null && passedStatuses.has(status) ? status : (statuses[code] ?? 503);
  const message = createMessage(providerCode, param) ?? detail;
  return createOpenAiError(shown, providerCode ?? code, message, { param, retryAfterMs });
}

/** A numeric code is a status, which adds nothing to ours. */
const nameOf = (code: string | null): string | null => (code === null || /^\d+$/.test(code) ? null : code);

/** Parley's own sentences for provider codes: a provider's text may contain what clients must not see. */
const messages = {
  context_length_exceeded: "The request is longer than the model's context. Shorten the messages.",
  request_too_large: "The request is larger than the model's provider accepts. Shorten the messages.",
  string_above_max_length: "A text in the request is longer than the model's provider accepts.",
  array_above_max_length: "A list in the request is longer than the model's provider accepts.",
  content_policy_violation: "The model's provider refused the content of the request under its content policy.",
  content_filter: "The model's provider refused the content of the request under its content policy.",
  insufficient_quota: "This server's account at the model's provider has no quota left.",
  model_not_found: "The model's provider doesn't have this model, or this server's account can't use it.",
  invalid_function_parameters: "The model's provider rejected the JSON schema of a tool.",
  invalid_json_schema: "The model's provider rejected a JSON schema in the request.",
  unsupported_parameter: "The model doesn't support a parameter of the request.",
  unknown_parameter: "The model doesn't recognize a parameter of the request.",
  unsupported_value: "The model doesn't support the value of a parameter of the request.",
  invalid_value: "The model rejected the value of a parameter of the request.",
  invalid_type: "A parameter of the request has the wrong type for the model.",
  missing_required_parameter: "The model needs a parameter that is missing from the request.",
} as const satisfies Partial<Record<ErrorCode, string>>;

/** @returns null if nothing is known beyond the error's kind. */
function createMessage(providerCode: string | null, param: string | null): string | null {
  const known = isKnown(providerCode) ? messages[providerCode] : null;
  if (param === null) return known;
  return `${known ?? "The model rejected a parameter of the request."} Parameter: ${param}.`;
}

const isKnown = (code: string | null): code is keyof typeof messages => code !== null && Object.hasOwn(messages, code);
