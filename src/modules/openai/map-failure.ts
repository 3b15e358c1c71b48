import type { RunEnd, RunFailure } from "../../ai/answer-part.ts";
import { createOpenAiError, type OpenAiError } from "../../http/openai-error.ts";
import type { ErrorCode } from "../../lib/error-codes.ts";

/** When an answer that a shutdown cut off may be asked for again: another instance can take it at once. */
const DRAINING_RETRY_AFTER_MS = 1_000;

const stopped = createOpenAiError(503, "draining", "The answer was stopped, because the server is shutting down.", {
  retryAfterMs: DRAINING_RETRY_AFTER_MS,
});

/** How a run ended without an answer, as OpenAI's clients read it. */
export function mapEndToOpenAiError(end: Exclude<RunEnd, { type: "finish" }>): OpenAiError {
  return end.type === "error" ? mapFailureToOpenAiError(end) : stopped;
}

/**
 * Statuses of a provider that are about the request, so that clients get them as they are. 409 is not among them: it passes,
 * and an answer with it would be kept under an `Idempotency-Key`.
 */
const passedStatuses = new Set([400, 404, 413, 415, 422, 429]);
const PAYMENT_REQUIRED = 402;

const statuses: Partial<Record<RunFailure["code"], number>> = {
  provider_refused: 400,
  provider_rate_limited: 429,
};

/**
 * The failure of a model: with the provider's own status, code and parameter where the request is at fault, and with its
 * `Retry-After`. What this server is to blame for (its credentials) shows nothing of the provider's: a 401 with
 * `invalid_api_key` would make clients doubt their own key.
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

/** A number in the place of a code is a status, which says nothing that ours does not. */
const nameOf = (code: string | null): string | null => (code === null || /^\d+$/.test(code) ? null : code);

/** Sentences of ours for codes of providers: a provider's own text may name what clients must not see. */
const messages = {
  context_length_exceeded: "The request is longer than the model's context. Shorten the messages.",
  request_too_large: "The request is larger than the model's provider accepts. Shorten the messages.",
  string_above_max_length: "A text in the request is longer than the model's provider accepts.",
  array_above_max_length: "A list in the request is longer than the model's provider accepts.",
  content_policy_violation: "The model's provider refused the content of the request under its content policy.",
  content_filter: "The model's provider refused the content of the request under its content policy.",
  insufficient_quota: "The quota of this server's account at the model's provider is used up.",
  model_not_found: "The model's provider does not have this model, or does not offer it to this server.",
  invalid_function_parameters: "The model's provider did not accept the JSON schema of a tool.",
  invalid_json_schema: "The model's provider did not accept a JSON schema in the request.",
  unsupported_parameter: "The model does not support a parameter of the request.",
  unknown_parameter: "The model does not know a parameter of the request.",
  unsupported_value: "The model does not support the value of a parameter of the request.",
  invalid_value: "The model did not accept the value of a parameter of the request.",
  invalid_type: "A parameter of the request has a type that the model did not accept.",
  missing_required_parameter: "The model needs a parameter that the request does not have.",
} as const satisfies Partial<Record<ErrorCode, string>>;

/** @returns null where nothing is known beyond the kind of the failure. */
function createMessage(providerCode: string | null, param: string | null): string | null {
  const known = isKnown(providerCode) ? messages[providerCode] : null;
  if (param === null) return known;
  return `${known ?? "The model did not accept a parameter of the request."} Parameter: ${param}.`;
}

const isKnown = (code: string | null): code is keyof typeof messages => code !== null && Object.hasOwn(messages, code);
