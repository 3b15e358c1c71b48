import type { RunEnd, RunFailure } from "../../ai/answer-part.ts";
import { createOpenAiError, type OpenAiError } from "../../http/openai-error.ts";
import type { ErrorCode } from "../../lib/error-codes.ts";

/**
 * Retry delay after a shutdown aborted an answer. Short, because another instance can process the request immediately.
 */
const DRAINING_RETRY_AFTER_MS = 1_000;

const drainingError = createOpenAiError(
  503,
  "draining",
  "The answer was aborted because the server is shutting down.",
  {
    retryAfterMs: DRAINING_RETRY_AFTER_MS,
  },
);

/** Maps the result of an unsuccessful run to OpenAI's error format. */
export function mapEndToOpenAiError(end: Exclude<RunEnd, { type: "finish" }>): OpenAiError {
  return end.type === "error" ? mapFailureToOpenAiError(end) : drainingError;
}

/**
 * Provider statuses that are caused by the request, and are forwarded to clients. 409 is excluded: it is temporary, but a
 * forwarded 409 would be stored under the `Idempotency-Key` and replayed.
 */
const forwardedStatuses = new Set([400, 404, 413, 415, 422, 429]);
const PAYMENT_REQUIRED = 402;

const statusByCode: Partial<Record<RunFailure["code"], number>> = {
  provider_refused: 400,
  provider_rate_limited: 429,
};

/**
 * Maps a model's failure. If the request caused it, the provider's status, code, parameter and `Retry-After` are kept. If this
 * server's credentials caused it, nothing from the provider is exposed, because a client would attribute a 401 with
 * `invalid_api_key` to its own key.
 */
function mapFailureToOpenAiError(failure: RunFailure): OpenAiError {
  const { code, detail, status, param, retryAfterMs } = failure;
  const providerCode = dropNumericCode(failure.providerCode);
  if (code === "provider_unauthorized") return createOpenAiError(503, code, detail);
  if (code === "invalid_output") return createOpenAiError(502, code, detail);
  if (code === "provider_timeout") return createOpenAiError(504, code, detail, { retryAfterMs });
  if (status === PAYMENT_REQUIRED || providerCode === "insufficient_quota")
    return createOpenAiError(429, "insufficient_quota", messagesByCode.insufficient_quota, { retryAfterMs });
  const clientStatus = status !== null && forwardedStatuses.has(status) ? status : (statusByCode[code] ?? 503);
  const message = createMessage(providerCode, param) ?? detail;
  return createOpenAiError(clientStatus, providerCode ?? code, message, { param, retryAfterMs });
}

/** Returns null for a numeric code, because it only repeats the HTTP status. */
const dropNumericCode = (code: string | null): string | null => (code === null || /^\d+$/.test(code) ? null : code);

/**
 * Parley's messages for provider codes. They replace the providers' messages, which may contain data that clients must not see.
 */
const messagesByCode = {
  context_length_exceeded: "The request is longer than the model's context window. Shorten the messages.",
  request_too_large: "The request is larger than the model's provider accepts. Shorten the messages.",
  string_above_max_length: "A string in the request is longer than the model's provider accepts.",
  array_above_max_length: "A list in the request is longer than the model's provider accepts.",
  content_policy_violation: "The model's provider rejected the content of the request under its content policy.",
  content_filter: "The model's provider rejected the content of the request under its content policy.",
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

/** Creates an error message. Returns null if neither the code nor the parameter is known. */
function createMessage(providerCode: string | null, param: string | null): string | null {
  const message = isKnownCode(providerCode) ? messagesByCode[providerCode] : null;
  if (param === null) return message;
  return `${message ?? "The model rejected a parameter of the request."} Parameter: ${param}.`;
}

const isKnownCode = (code: string | null): code is keyof typeof messagesByCode =>
  code !== null && Object.hasOwn(messagesByCode, code);
