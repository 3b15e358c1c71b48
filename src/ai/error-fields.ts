import { isErrorName } from "./error-table.ts";
import { type Fields, readFields, readList, readText } from "./fields.ts";
import { readRetryAfter } from "./retry-after.ts";

/** The content of a provider's error body, whatever its fields are called. None of it is safe for clients yet. */
export type ErrorFields = {
  /** Names of the error, most specific first. */
  words: string[];
  /** An HTTP status named in the error. */
  status: number | null;
  message: string;
  /** The error's own name or number, in the provider's spelling. */
  code: string | null;
  param: string | null;
  retryAfterMs: number | null;
};

/** Levels of nested errors to read: an event, its response, that response's error, and the error a gateway received. */
const LEVELS_MAX = 5;
/** Longest text that may hold another error's JSON, in UTF-16 units. */
const EMBEDDED_LENGTH_MAX = 16_384;

/**
 * Whether a JSON value from a provider is an error: `error` is set, or its type says so. Fields that successful answers have
 * too (`error: null`) don't count.
 */
export function isErrorValue(value: unknown): boolean {
  const fields = readFields(Array.isArray(value) ? value[0] : value);
  if (fields.type === "error" || fields.object === "error") return true;
  if (fields.status === "error" || readList(fields.errors).length > 0) return true;
  const { error } = fields;
  // Some servers write all error fields into every event, empty.
  if (typeof error === "object" && error !== null) return Object.values(error).some(Boolean);
  return Boolean(error);
}

/**
 * Whether an object is an error although it lacks the usual fields: it has no part of an answer, and names an error status
 * or has a message with an error code or error type.
 */
export function isBareError(value: unknown): boolean {
  const fields = readFields(value);
  if (typeof fields.error === "object" && fields.error !== null) return true;
  if (statusNames.some((name) => readStatus(fields[name]) !== null)) return true;
  // FastAPI sends nothing else.
  if (fields.detail && Object.keys(fields).length === 1) return true;
  if (listTexts(fields).length === 0) return false;
  if (typeof fields.error_code === "number" && fields.error_code !== 0) return true;
  const [code, type] = [readText(fields.code), readText(fields.type) ?? readText(fields.__type)];
  return (code !== null && isErrorName(code)) || /error|exception/i.test(type ?? "");
}

/** Reads an error of any shape: the fields themselves, a nested `error`, or a text. */
export function readErrorFields(value: unknown): ErrorFields {
  const { levels, text } = listLevels(value);
  return {
    words: [...levels.flatMap(listWords), ...(text === null ? [] : [text])],
    status: findFirst(levels, (level) => statusNames.map((name) => readStatus(level[name])).find(Boolean) ?? null),
    message: text ?? findFirst(levels, (level) => listTexts(level)[0] ?? null) ?? "",
    code: findCode(levels),
    param: findFirst(levels, (level) => readText(level.param) ?? readLocation(level.loc)),
    retryAfterMs: findFirst(levels, readRetryAfter),
  };
}

/** The nested errors, innermost first: the innermost comes from the server that failed and is the most precise. */
function listLevels(value: unknown): { levels: Fields[]; text: string | null } {
  const levels: Fields[] = [];
  let next = Array.isArray(value) ? value[0] : value;
  while (typeof next === "object" && next !== null && !Array.isArray(next) && levels.length < LEVELS_MAX) {
    const level = next as Fields;
    levels.unshift(level);
    next = findInner(level);
  }
  return { levels, text: readText(next) };
}

/** The error nested in an error: in its own field, or as JSON text from a gateway. */
function findInner(level: Fields): unknown {
  const inner = level.error ?? level.response ?? level.innererror ?? readList(level.errors ?? level.detail)[0];
  if (inner !== undefined) return inner;
  for (const text of [level.detail, level.message]) if (typeof text === "object" && text !== null) return text;
  return parseEmbedded(readFields(level.metadata).raw) ?? parseEmbedded(level.message);
}

/** Gateways forward an error as JSON text. */
function parseEmbedded(value: unknown): unknown {
  if (typeof value !== "string" || value.length > EMBEDDED_LENGTH_MAX || !value.trimStart().startsWith("{"))
    return null;
  try {
    return JSON.parse(value);
  } catch {
    return null;
  }
}

function findFirst<Value>(levels: readonly Fields[], read: (level: Fields) => Value | null): Value | null {
  for (const level of levels) {
    const value = read(level);
    if (value !== null) return value;
  }
  return null;
}

const listTexts = ({ message, detail, msg, error_msg }: Fields): string[] =>
  [message, detail, msg, error_msg].map(readText).filter((text) => text !== null);

/** Where pydantic found the problem: `["body", "messages", 0]`. */
const readLocation = (value: unknown): string | null =>
  readText(
    readList(value)
      .filter((step) => step !== "body")
      .join("."),
  );

function listWords(level: Fields): string[] {
  const reasons = readList(level.details).map((detail) => readFields(detail).reason);
  const { code, details, error_code, type, __type, status } = level;
  const named = [code, error_code, ...reasons, readFields(details).error_code, type, __type, status];
  // If the error points into the request, the request was invalid, whatever the error is called.
  if (readList(level.loc).length > 0) named.push("validation_error");
  return named.flatMap((word) => (typeof word === "string" && word !== "" ? [word] : []));
}

const statusNames = ["code", "status", "status_code", "statusCode", "http_status"] as const;

/** 400 to 599, as a number or at the start of a text; other numbers are the provider's own codes. */
function readStatus(value: unknown): number | null {
  const status = typeof value === "string" ? Number(/^\d{3}(?!\d)/.exec(value)?.[0]) : value;
  return typeof status === "number" && Number.isInteger(status) && status >= 400 && status <= 599 ? status : null;
}

/**
 * Prefers a name over a number. Falls back to the type if the provider has no codes (Anthropic), but not if the code is
 * null.
 */
function findCode(levels: readonly Fields[]): string | null {
  const isName = (text: string | null) => (text !== null && !/^\d+$/.test(text) ? text : null);
  const isSet = (value: unknown) => typeof value === "string" || typeof value === "number";
  return (
    findFirst(levels, ({ code }) => isName(readText(code))) ??
    findFirst(levels, ({ status }) => (typeof status === "string" && /^[A-Z_]+$/.test(status) ? status : null)) ??
    findFirst(levels, ({ code }) => (isSet(code) && code !== "" ? String(code) : null)) ??
    findFirst(levels, (level) => ("code" in level || level.type === "error" ? null : readText(level.type)))
  );
}
