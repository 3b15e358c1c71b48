import pino, { type Logger } from "pino";
import pretty from "pino-pretty";

export type Log = Logger;

/** Never written, wherever they stand in a logged object. */
const secretPaths = ["password", "token", "access_token", "refresh_token", "authorization", "ticket", "key", "secret"];

/** JSON lines on stdout (or readable lines with `pretty`); level names as text, times in RFC 3339. */
export function createLog(level: string, format: "json" | "pretty"): Log {
  const options = {
    level,
    base: undefined,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths: secretPaths.flatMap((name) => [name, `*.${name}`]), censor: "[redacted]" },
  };
  if (format === "pretty") return pino(options, pretty({ sync: true, translateTime: "HH:MM:ss.l" }));
  return pino(options, pino.destination({ fd: 1, sync: true }));
}
