import type { ProviderError, ProviderErrorCode } from "./provider.ts";

/** What a provider said about an error, as far as the log keeps it. UTF-16 units. */
const CAUSE_LENGTH_MAX = 300;

const details: Record<ProviderErrorCode, string> = {
  provider_unavailable: "The model cannot be reached at the moment.",
  provider_rate_limited: "The model takes no more requests at the moment.",
  provider_timeout: "The model did not answer in time.",
  provider_refused: "The model did not accept the request.",
  provider_unauthorized: "The model's provider did not accept this server's credentials.",
};

type Extra = { retryable?: boolean; retryAfterMs?: number | null; secrets?: readonly string[] };

/** A provider's failure: our code and sentence for clients, the foreign text, cleaned and cut, for the log. */
export function createProviderError(code: ProviderErrorCode, cause: string, extra: Extra = {}): ProviderError {
  const isTransient = code !== "provider_refused" && code !== "provider_unauthorized";
  return {
    code,
    detail: details[code],
    retryable: extra.retryable ?? isTransient,
    retryAfterMs: extra.retryAfterMs ?? null,
    cause: cleanCause(cause, extra.secrets ?? []),
  };
}

const keyPattern = /\b(?:sk|pk|key)-[\w*-]{6,}|\bBearer\s+\S+/gi;

/** A foreign text as the log may keep it: without keys, on one line, short. */
export function cleanCause(cause: string, secrets: readonly string[]): string {
  // Cut twice: once so that a page of HTML is not searched, once to the final length.
  let text = cause.slice(0, CAUSE_LENGTH_MAX * 4);
  for (const secret of secrets) if (secret !== "") text = text.replaceAll(secret, "[key]");
  return text.replace(keyPattern, "[key]").replace(/\s+/g, " ").trim().slice(0, CAUSE_LENGTH_MAX);
}

/** What is known of an HTTP answer that was no success, or of a request that had no answer (`status` null). */
export type HttpFailure = { status: number | null; headers: Headers | null; message: string };

/** One table from HTTP status to our code, for every provider. */
export function mapHttpFailure(failure: HttpFailure, secrets: readonly string[]): ProviderError {
  const { status, headers, message } = failure;
  const cause = status === null ? message : `HTTP ${status}: ${message}`;
  const extra = { retryAfterMs: parseRetryAfter(headers, Date.now()), secrets };
  if (status === null || status === 408 || status === 409 || status >= 500)
    return createProviderError("provider_unavailable", cause, extra);
  if (status === 429) {
    // An empty account answers 429 too, and no retry fills it.
    const retryable = !message.includes("insufficient_quota");
    return createProviderError("provider_rate_limited", cause, { ...extra, retryable });
  }
  if (status === 401 || status === 403) return createProviderError("provider_unauthorized", cause, extra);
  return createProviderError("provider_refused", cause, extra);
}

/**
 * An error event inside a stream that began with HTTP 200, by the provider's own name of the error (`type` or `code`).
 */
export function mapErrorEvent(name: string, message: string, secrets: readonly string[]): ProviderError {
  const cause = `error event ${name}: ${message}`;
  if (/rate_limit/.test(name)) return createProviderError("provider_rate_limited", cause, { secrets });
  if (/^(authentication|permission)/.test(name))
    return createProviderError("provider_unauthorized", cause, { secrets });
  if (/^invalid|not_found|context_length/.test(name))
    return createProviderError("provider_refused", cause, { secrets });
  return createProviderError("provider_unavailable", cause, { secrets });
}

/** `Retry-After` (seconds or an HTTP date) and OpenAI's `retry-after-ms`, in milliseconds from `nowMs`. */
export function parseRetryAfter(headers: Headers | null, nowMs: number): number | null {
  const milliseconds = Number.parseFloat(headers?.get("retry-after-ms") ?? "");
  if (milliseconds >= 0) return Math.ceil(milliseconds);
  const value = headers?.get("retry-after")?.trim();
  if (!value) return null;
  if (/^\d+(\.\d+)?$/.test(value)) return Math.ceil(Number(value) * 1000);
  // A date begins with its weekday; the parser would make a year of any number.
  const at = /^[A-Za-z]/.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(at) ? null : Math.max(0, at - nowMs);
}
