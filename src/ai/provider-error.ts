import { isWorthMasking } from "../lib/mask-secrets.ts";
import { type ErrorFields, parseErrorFields } from "./error-fields.ts";
import { type ErrorClues, findErrorKind } from "./error-table.ts";
import type { ProviderError, ProviderErrorCode } from "./provider.ts";
import { parseRetryAfter } from "./retry-after.ts";

/** Maximum length of a provider's message in the log, in UTF-16 code units. */
const CAUSE_LENGTH_MAX = 300;
/** Maximum length before secrets are masked. A lower maximum could cut a secret in two, and the remaining part wouldn't be recognized. */
const UNMASKED_LENGTH_MAX = 65_536;

const details: Record<ProviderErrorCode, string> = {
  provider_unavailable: "The model can't be reached right now. Try again later.",
  provider_rate_limited: "The model is rate-limiting requests. Try again later.",
  provider_timeout: "The model didn't respond in time. Try again.",
  provider_refused: "The model rejected the request.",
  provider_unauthorized: "The model's provider rejected this server's credentials.",
};

/** Values that must never be logged. If null, they aren't known yet, and the error must be cleaned later. */
type Secrets = readonly string[] | null;

/** Doesn't mention a setting, because users don't see settings. The log tells operators which setting to check. */
const NOT_FOUND_DETAIL =
  "The provider doesn't have this model at the configured address. The server log has the details.";

type Extra = Partial<Pick<ProviderError, "retryable" | "retryAfterMs" | "status" | "providerCode" | "param">> & {
  secrets?: Secrets;
};

/**
 * Creates a provider error: a code and a message for clients, and the provider's own message, cleaned and truncated, for the
 * log.
 */
export function createProviderError(code: ProviderErrorCode, cause: string, extra: Extra = {}): ProviderError {
  const isTransient = code !== "provider_refused" && code !== "provider_unauthorized";
  const error = {
    code,
    detail: code === "provider_refused" && extra.status === 404 ? NOT_FOUND_DETAIL : details[code],
    retryable: extra.retryable ?? isTransient,
    retryAfterMs: extra.retryAfterMs ?? null,
    status: extra.status ?? null,
    providerCode: extra.providerCode ?? null,
    param: extra.param ?? null,
    cause: cause.slice(0, UNMASKED_LENGTH_MAX),
  };
  return extra.secrets === null ? error : cleanError(error, extra.secrets ?? []);
}

const codePattern = /^[\w.:-]{1,64}$/;
const paramPattern = /^[\w.[\]/:$-]{1,100}$/;

/** Truncates the provider's text in an error, and removes keys from that text. */
export function cleanError(error: ProviderError, secrets: readonly string[]): ProviderError {
  const keepIfSafe = (text: string | null, pattern: RegExp) =>
    text !== null && pattern.test(text) && cleanCause(text, secrets) === text ? text : null;
  return {
    ...error,
    providerCode: keepIfSafe(error.providerCode, codePattern),
    param: keepIfSafe(error.param, paramPattern),
    cause: cleanCause(error.cause, secrets),
  };
}

const keyPattern = /\b(?:sk|pk|key)-[\w*-]{6,}|\bBearer\s+\S+/gi;

/** Removes keys from the provider's text, joins its lines and truncates it. */
function cleanCause(cause: string, secrets: readonly string[]): string {
  let text = cause;
  for (const secret of secrets) if (isWorthMasking(secret)) text = text.replaceAll(secret, "[key]");
  // The text may be a whole HTML page, so it is also truncated before the pattern is matched.
  text = text.slice(0, CAUSE_LENGTH_MAX * 4);
  return text.replace(keyPattern, "[key]").replace(/\s+/g, " ").trim().slice(0, CAUSE_LENGTH_MAX);
}

/** A failed HTTP response. `status` is null if there was no response. */
export type HttpFailure = {
  status: number | null;
  headers: Headers | null;
  message: string;
  /** The parsed body, or undefined if it isn't JSON. */
  body?: unknown;
};

const noBodyPattern = /status code \(no body\)$/;

/** Maps a failed or missing HTTP response to an error. */
export function mapHttpFailure(failure: HttpFailure, secrets: readonly string[]): ProviderError {
  const { status, headers, message, body } = failure;
  const fields = parseErrorFields(body);
  // The SDKs look for the message only in some fields. If those are empty, they report a missing body.
  const isMessageMissing = typeof body === "object" && fields.message !== "" && noBodyPattern.test(message);
  const loggedMessage = isMessageMissing ? fields.message : message;
  const cause = status === null ? loggedMessage : `HTTP ${status}: ${loggedMessage}`;
  const retryAfterMs = parseRetryAfter(headers, Date.now()) ?? fields.retryAfterMs;
  const clues = { ...fields, message: `${message} ${fields.message}`, httpStatus: status };
  return createErrorFromClues(clues, { ...fields, status: status ?? fields.status, retryAfterMs }, cause, secrets);
}

/**
 * Maps an error that was sent with HTTP 200, in a stream or a JSON document.
 * @param value parsed JSON.
 * @param secrets if null, the error must be cleaned later.
 */
export function mapErrorFields(value: unknown, secrets: Secrets = null): ProviderError {
  const fields = parseErrorFields(value);
  const name = fields.code ?? fields.names[0] ?? "without a name";
  const cause = `error event ${name}: ${fields.message || "(no message)"}`;
  return createErrorFromClues({ ...fields, httpStatus: null }, fields, cause, secrets);
}

/** Maps the text of an error event, which isn't always JSON. */
export function mapErrorText(text: string, secrets: readonly string[]): ProviderError {
  let value: unknown = text;
  try {
    value = JSON.parse(text);
  } catch {
    // The text is the message.
  }
  return mapErrorFields(value, secrets);
}

function createErrorFromClues(
  clues: ErrorClues,
  { status, code: providerCode, param, retryAfterMs }: ErrorFields,
  cause: string,
  secrets: Secrets,
): ProviderError {
  const { code, retryable } = findErrorKind(clues);
  return createProviderError(code, cause, { retryable, retryAfterMs, status, providerCode, param, secrets });
}
