import { isTelling } from "../lib/mask-secrets.ts";
import { type ErrorFields, readErrorFields } from "./error-fields.ts";
import { type ErrorClues, findErrorKind } from "./error-table.ts";
import type { ProviderError, ProviderErrorCode } from "./provider.ts";
import { parseRetryAfter } from "./retry-after.ts";

/** What a provider said about an error, as far as the log keeps it. UTF-16 units. */
const CAUSE_LENGTH_MAX = 300;
/** The same before secrets are hidden in it: what is cut then may end in a part of one, which nothing would find. */
const FOREIGN_LENGTH_MAX = 65_536;

const details: Record<ProviderErrorCode, string> = {
  provider_unavailable: "The model cannot be reached at the moment.",
  provider_rate_limited: "The model takes no more requests at the moment.",
  provider_timeout: "The model did not answer in time.",
  provider_refused: "The model did not accept the request.",
  provider_unauthorized: "The model's provider did not accept this server's credentials.",
};

/** Never to appear in a log. Null: they are not known here. The error stays as it is, and is cleaned later. */
type Secrets = readonly string[] | null;

/** Settings are for administrators; the log names the one to look at. */
const NOT_FOUND_DETAIL =
  "The provider does not have this model, or not at the address that is configured. An administrator can see more in the log.";

type Extra = Partial<Pick<ProviderError, "retryable" | "retryAfterMs" | "status" | "providerCode" | "param">> & {
  secrets?: Secrets;
};

/** A provider's failure: our code and sentence for clients, the foreign text, cleaned and cut, for the log. */
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

/** The error as it may leave this border: what is foreign in it is short, and holds no key. */
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

/** A foreign text as the log may keep it: without keys, on one line, short. */
function cleanCause(cause: string, secrets: readonly string[]): string {
  let text = cause;
  for (const secret of secrets) if (isTelling(secret)) text = text.replaceAll(secret, "[key]");
  // Cut twice: once so that a page of HTML is not searched, once to the final length.
  text = text.slice(0, CAUSE_LENGTH_MAX * 4);
  return text.replace(keyPattern, "[key]").replace(/\s+/g, " ").trim().slice(0, CAUSE_LENGTH_MAX);
}

/** What is known of an HTTP response that was no success, or of a request that had no response (`status` null). */
export type HttpFailure = {
  status: number | null;
  headers: Headers | null;
  message: string;
  /** The parsed body; undefined if it is no JSON. */
  body?: unknown;
};

const noBodyPattern = /status code \(no body\)$/;

/** An HTTP response that was no success, or none at all. */
export function mapHttpFailure(failure: HttpFailure, secrets: readonly string[]): ProviderError {
  const { status, headers, message, body } = failure;
  const fields = readErrorFields(body);
  // The SDKs know the error's text in some places only, and say there was no body where it stands elsewhere.
  const isMissed = typeof body === "object" && fields.message !== "" && noBodyPattern.test(message);
  const said = isMissed ? fields.message : message;
  const cause = status === null ? said : `HTTP ${status}: ${said}`;
  const retryAfterMs = parseRetryAfter(headers, Date.now()) ?? fields.retryAfterMs;
  const clues = { ...fields, message: `${message} ${fields.message}`, httpStatus: status };
  return mapClues(clues, { ...fields, status: status ?? fields.status, retryAfterMs }, cause, secrets);
}

/**
 * An error inside a stream or a document that came with HTTP 200, in any shape: an event, its `error`, a text.
 * @param value parsed JSON.
 * @param secrets absent where they are not known: the error is to be cleaned later, since what is cut before may end in half
 *   a key.
 */
export function mapErrorFields(value: unknown, secrets: Secrets = null): ProviderError {
  const fields = readErrorFields(value);
  const name = fields.code ?? fields.words[0] ?? "of no name";
  const cause = `error event ${name}: ${fields.message || "(no message)"}`;
  return mapClues({ ...fields, httpStatus: null }, fields, cause, secrets);
}

/** The same by the text of an event, which need not be JSON. */
export function mapErrorText(text: string, secrets: readonly string[]): ProviderError {
  let value: unknown = text;
  try {
    value = JSON.parse(text);
  } catch {
    // The text is the message.
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
