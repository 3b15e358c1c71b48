import pino, { type Logger } from "pino";
import pretty from "pino-pretty";

export type Log = Logger;

/** Names of fields whose values are never logged. */
const secretFieldNames = [
  "password",
  "token",
  "access_token",
  "refresh_token",
  "authorization",
  "ticket",
  "key",
  "secret",
];

export type LogOptions = {
  /** Whether human-readable lines are colored. */
  isColored?: boolean;
  /** Masks known secrets in a line. */
  maskSecrets?: (text: string) => string;
  /** Returns fields to add to every line. */
  getExtraFields?: (() => object) | undefined;
};

/**
 * Creates a log that writes JSON lines or human-readable lines to stdout. Library errors may contain secrets, so secrets are
 * masked in the final line.
 */
export function createLog(
  level: string,
  format: "json" | "pretty",
  { isColored = false, maskSecrets = (text) => text, getExtraFields }: LogOptions = {},
): Log {
  const options = {
    level,
    base: undefined,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths: secretFieldNames.flatMap((name) => [name, `*.${name}`]), censor: "[redacted]" },
    hooks: { streamWrite: maskSecrets },
    ...(getExtraFields && { mixin: getExtraFields }),
  };
  if (format === "json") return pino(options, pino.destination({ fd: 1, sync: true }));
  const stream = pretty({
    sync: true,
    colorize: isColored,
    translateTime: "HH:MM:ss.l",
    hideObject: true,
    messageFormat: (line, messageKey) => formatMessage(line, messageKey),
  });
  return pino(options, stream);
}

/** Fields that a human-readable line shows before or below the message. */
const separateFields = new Set(["level", "time", "err"]);

/** Formats the message of a human-readable line with its fields. Requests have a short format, because they are frequent. */
function formatMessage(line: Record<string, unknown>, messageKey: string): string {
  const message = String(line[messageKey] ?? "");
  if (message === "request" && typeof line.status === "number") return formatRequest(line);
  const fields = Object.entries(line).filter(([name]) => name !== messageKey && !separateFields.has(name));
  return escapeControlCharacters(
    fields.length === 0 ? message : `${message} ${JSON.stringify(Object.fromEntries(fields))}`,
  );
}

function formatRequest({ method, path, route, status, ms, user_id, address }: Record<string, unknown>): string {
  const origin = [address, user_id && `user ${user_id}`].filter(Boolean).join(" ");
  return escapeControlCharacters(`${method} ${path ?? route} ${status} ${ms} ms${origin && ` (${origin})`}`);
}

/** Prevents fields from starting a new line or sending terminal escape codes. */
const escapeControlCharacters = (text: string): string =>
  text.replaceAll(/\p{Cc}/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);
