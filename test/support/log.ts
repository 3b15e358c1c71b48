import pino from "pino";
import { createLog, type Log } from "../../src/lib/log.ts";

/** Set `TEST_LOG=debug` to see the server's log during a test. */
export const silentLog = createLog(process.env.TEST_LOG ?? "silent", "json");

/** Creates a log whose lines a test can read. */
export function createTestLog(level = "debug"): { log: Log; lines: Record<string, unknown>[] } {
  const lines: Record<string, unknown>[] = [];
  const formatters = { level: (label: string) => ({ level: label }) };
  const log = pino(
    { level, base: undefined, formatters },
    { write: (text: string) => void lines.push(JSON.parse(text)) },
  );
  return { log, lines };
}
