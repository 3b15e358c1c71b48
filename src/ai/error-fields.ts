import { isErrorName } from "./error-table.ts";
import { asFields, asList, asNonEmptyString, type Fields } from "./fields.ts";
import { parseBodyRetryAfter } from "./retry-after.ts";

/** The content of a provider's error, independent of the provider's field names. It must be redacted before it reaches clients. */
export type ErrorFields = {
  /** Names of the error, most specific first. */
  names: string[];
  /** The HTTP status in the error itself. */
  status: number | null;
  message: string;
  /** The provider's own name or number for the error. */
  code: string | null;
  param: string | null;
  retryAfterMs: number | null;
};

/** Maximum depth of nested errors: an event, its response, the response's error, an upstream error, and one more. */
const LEVELS_MAX = 5;
/** Maximum length of a string that is parsed as a nested JSON error, in UTF-16 code units. */
const EMBEDDED_LENGTH_MAX = 16_384;

/**
 * Whether a JSON value from a provider is an error, according to its `error` field or its type. An empty `error` field
 * doesn't count, because successful responses have it too.
 */
export function isErrorValue(value: unknown): boolean {
  const fields = asFields(Array.isArray(value) ? value[0] : value);
  if (fields.type === "error" || fields.object === "error") return true;
  if (fields.status === "error" || asList(fields.errors).length > 0) return true;
  const { error } = fields;
  // Some servers put an error object with empty fields into every event.
  if (typeof error === "object" && error !== null) return Object.values(error).some(Boolean);
  return Boolean(error);
}

/**
 * Whether an object that contains no part of an answer is an error without the usual fields: it has an error status, or a
 * message and an error code or type.
 */
export function isBareError(value: unknown): boolean {
  const fields = asFields(value);
  if (typeof fields.error === "object" && fields.error !== null) return true;
  if (statusFieldNames.some((name) => parseStatus(fields[name]) !== null)) return true;
  // FastAPI errors have only this field.
  if (fields.detail && Object.keys(fields).length === 1) return true;
  if (listMessages(fields).length === 0) return false;
  if (typeof fields.error_code === "number" && fields.error_code !== 0) return true;
  const [code, type] = [
    asNonEmptyString(fields.code),
    asNonEmptyString(fields.type) ?? asNonEmptyString(fields.__type),
  ];
  return (code !== null && isErrorName(code)) || /error|exception/i.test(type ?? "");
}

/** Parses an error: an object, an array that contains an error object, or a string. Errors can be nested. */
export function parseErrorFields(value: unknown): ErrorFields {
  const { levels, text } = listLevels(value);
  return {
    names: [...levels.flatMap(listNames), ...(text === null ? [] : [text])],
    status: findFirst(
      levels,
      (level) => statusFieldNames.map((name) => parseStatus(level[name])).find(Boolean) ?? null,
    ),
    message: text ?? findFirst(levels, (level) => listMessages(level)[0] ?? null) ?? "",
    code: findCode(levels),
    param: findFirst(levels, (level) => asNonEmptyString(level.param) ?? formatLocation(level.loc)),
    retryAfterMs: findFirst(levels, parseBodyRetryAfter),
  };
}

/**
 * Returns the nested errors, innermost first. The innermost error is the most precise, because it comes from the server that
 * failed.
 */
function listLevels(value: unknown): { levels: Fields[]; text: string | null } {
  const levels: Fields[] = [];
  let nextLevel = Array.isArray(value) ? value[0] : value;
  while (
    typeof nextLevel === "object" &&
    nextLevel !== null &&
    !Array.isArray(nextLevel) &&
    levels.length < LEVELS_MAX
  ) {
    const level = nextLevel as Fields;
    levels.unshift(level);
    nextLevel = findInnerError(level);
  }
  return { levels, text: asNonEmptyString(nextLevel) };
}

/** Finds the error nested in an error: as an object, or as a JSON string from a gateway. */
function findInnerError(level: Fields): unknown {
  const inner = level.error ?? level.response ?? level.innererror ?? asList(level.errors ?? level.detail)[0];
  if (inner !== undefined) return inner;
  for (const value of [level.detail, level.message]) if (typeof value === "object" && value !== null) return value;
  return parseEmbeddedJson(asFields(level.metadata).raw) ?? parseEmbeddedJson(level.message);
}

function parseEmbeddedJson(value: unknown): unknown {
  if (typeof value !== "string" || value.length > EMBEDDED_LENGTH_MAX || !value.trimStart().startsWith("{"))
    return null;
  try {
    return JSON.parse(value);
  } catch {
    return null;
  }
}

function findFirst<Value>(levels: readonly Fields[], parse: (level: Fields) => Value | null): Value | null {
  for (const level of levels) {
    const value = parse(level);
    if (value !== null) return value;
  }
  return null;
}

const listMessages = ({ message, detail, msg, error_msg }: Fields): string[] =>
  [message, detail, msg, error_msg].map(asNonEmptyString).filter((text) => text !== null);

/** Formats the location in a Pydantic error: `["body", "messages", 0]` becomes `messages.0`. */
const formatLocation = (value: unknown): string | null =>
  asNonEmptyString(
    asList(value)
      .filter((step) => step !== "body")
      .join("."),
  );

function listNames(level: Fields): string[] {
  const reasons = asList(level.details).map((detail) => asFields(detail).reason);
  const { code, details, error_code, type, __type, status } = level;
  const names = [code, error_code, ...reasons, asFields(details).error_code, type, __type, status];
  // An error with a location in the request means that the request was invalid.
  if (asList(level.loc).length > 0) names.push("validation_error");
  return names.flatMap((name) => (typeof name === "string" && name !== "" ? [name] : []));
}

const statusFieldNames = ["code", "status", "status_code", "statusCode", "http_status"] as const;

/** Parses an HTTP error status, as a number or at the start of a string. Other numbers are the provider's own codes. */
function parseStatus(value: unknown): number | null {
  const status = typeof value === "string" ? Number(/^\d{3}(?!\d)/.exec(value)?.[0]) : value;
  return typeof status === "number" && Number.isInteger(status) && status >= 400 && status <= 599 ? status : null;
}

/**
 * Finds the error's code. Prefers a name over a number. If the error has no `code` field, like Anthropic's errors, returns its
 * type.
 */
function findCode(levels: readonly Fields[]): string | null {
  const nameOrNull = (text: string | null) => (text !== null && !/^\d+$/.test(text) ? text : null);
  const isSet = (value: unknown) => typeof value === "string" || typeof value === "number";
  return (
    findFirst(levels, ({ code }) => nameOrNull(asNonEmptyString(code))) ??
    findFirst(levels, ({ status }) => (typeof status === "string" && /^[A-Z_]+$/.test(status) ? status : null)) ??
    findFirst(levels, ({ code }) => (isSet(code) && code !== "" ? String(code) : null)) ??
    findFirst(levels, (level) => ("code" in level || level.type === "error" ? null : asNonEmptyString(level.type)))
  );
}
