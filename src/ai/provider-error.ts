import { isWorthMasking } from "../lib/mask-secrets.ts";
import { type ErrorFields, readErrorFields } from "./error-fields.ts";
import { type ErrorClues, findErrorKind } from "./error-table.ts";
import type { ProviderError, ProviderErrorCode } from "./provider.ts";
import { parseRetryAfter } from "./retry-after.ts";

/** Longest provider message kept in the log, in UTF-16 units. */
const CAUSE_LENGTH_MAX = 300;
/** The same before secrets are masked: cutting earlier could leave part of a secret, which the mask wouldn't match. */
const FOREIGN_LENGTH_MAX = 65_536;

const details: Record<ProviderErrorCode, string> = {
  provider_unavailable: "The model can't be reached right now. Try again later.",
  provider_rate_limited: "The model is rate-limiting requests. Try again later.",
  provider_timeout: "The model didn't respond in time. Try again.",
  provider_refused: "The model rejected the request.",
  provider_unauthorized: "The model's provider rejected this server's credentials.",
};

/** Values that must never appear in a log. Null: unknown here; the error is cleaned later. */
type Secrets = readonly string[] | null;

/** Users may not see settings; the log names the one to check. */
const NOT_FOUND_DETAIL =
  "The provider doesn't have this model at the configured address. The server log has the details.";

type Extra = Partial<Pick<ProviderError, "retryable" | "retryAfterMs" | "status" | "providerCode" | "param">> & {
  secrets?: Secrets;
};

/**
 * Creates a provider failure: Parley's code and sentence for clients, and the provider's text, cleaned and shortened, for
 * the log.
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
    cause: cause.slice(0, FOREIGN_LENGTH_MAX),
  };
  return extra.secrets === null ? error : cleanError(error, extra.secrets ?? []);
}

const codePattern = /^[\w.:-]{1,64}$/;
const paramPattern = /^[\w.[\]/:$-]{1,100}$/;

/** Cleans an error before it leaves the provider layer: foreign text is shortened and keys are removed. */
export function cleanError(error: ProviderError, secrets: readonly string[]): ProviderError {
  const keep = (text: string | null, pattern: RegExp) =>
    text !== null && pattern.test(text) && cleanCause(text, secrets) === text ? text : null;
  return {
    ...error,
    providerCode: keep(error.providerCode, codePattern),
    param: keep(error.param, paramPattern),
    cause: cleanCause(error.cause, secrets),
  };
}

const keyPattern = /\b(?:sk|pk|key)-[\w*-]{6,}|\bBearer\s+\S+/gi;

/** Prepares foreign text for the log: no keys, one line, short. */
function cleanCause(cause: string, secrets: readonly string[]): string {
  let text = cause;
  for (const secret of secrets) if (isWorthMasking(secret)) text = text.replaceAll(secret, "[key]");
  // Cut first, so that a whole HTML page isn't searched, then to the final length.
  text = text.slice(0, CAUSE_LENGTH_MAX * 4);
  return text.replace(keyPattern, "[key]").replace(/\s+/g, " ").trim().slice(0, CAUSE_LENGTH_MAX);
}

/** A failed HTTP response, or a request without a response (`status` null). */
export type HttpFailure = {
  status: number | null;
  headers: Headers | null;
  message: string;
  /** The parsed body; undefined if it isn't JSON. */
  body?: unknown;
};

const noBodyPattern = /status code \(no body\)$/;

/** Maps a failed HTTP response, or a missing one. */
export function mapHttpFailure(failure: HttpFailure, secrets: readonly string[]): ProviderError {
  const { status, headers, message, body } = failure;
  const fields = readErrorFields(body);
  // The SDKs find the error's text only in some fields, and otherwise claim there was no body.
  const isMissed = typeof body === "object" && fields.message !== "" && noBodyPattern.test(message);
  const shownMessage = isMissed ? fields.message : message;
  const cause = status === null ? shownMessage : `HTTP ${status}: ${shownMessage}`;
  const retryAfterMs = parseRetryAfter(headers, Date.now()) ?? fields.retryAfterMs;
  const clues = { ...fields, message: `${message} ${fields.message}`, httpStatus: status };
  return mapClues(clues, { ...fields, status: status ?? fields.status, retryAfterMs }, cause, secrets);
}

/**
 * Maps an error in a stream or document that came with HTTP 200, in any shape: an event, its `error`, a text.
 * @param value parsed JSON.
 * @param secrets absent if unknown: the error must be cleaned later, since cutting it now could leave half a key.
 */
export function mapErrorFields(value: unknown, secrets: Secrets = null): ProviderError {
  const fields = readErrorFields(value);
  const name = fields.code ?? fields.words[0] ?? "of no name";
  const cause = `error event ${name}: ${fields.message || "(no message)"}`;
  return mapClues({ ...fields, httpStatus: null }, fields, cause, secrets);
}

/** The same for the text of an event, which may not be JSON. */
export function mapErrorText(text: string, secrets: readonly string[]): ProviderError {
  let value: unknown = text;
  try {
    value = JSON.parse(text);
  } catch {
    // The text itself is the message.
  }
  return mapErrorFields(value, secrets);
}

function mapClues(
  clues: ErrorClues,
  { status, code: providerCode, param, retryAfterMs }: ErrorFields,
  cause: string,
  secrets: Secrets,
): ProviderError {
  const { code, retryable } = findErrorKind(clues);
  return createProviderError(code, cause, { retryable, retryAfterMs, status, providerCode, param, secrets });
}
