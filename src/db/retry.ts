import { abortable } from "../lib/abortable.ts";
import { Problem } from "../lib/problem.ts";
import { findTemporaryProblem } from "./errors.ts";

const PAUSE_MS = 500;

/** Whether a retry may succeed: a row was locked, or the database was unavailable, too slow or overloaded. */
export const isTemporary = (error: unknown): boolean =>
  error instanceof Problem
    ? error.code === "overloaded" || error.code === "unavailable"
    : findTemporaryProblem(error) !== undefined;

/**
 * Repeats `work` while it fails with temporary errors. Use it for work that must not be lost. Requests are refused instead,
 * so their clients can retry.
 * @param signal aborts it, even during an attempt.
 * @throws whatever else `work` throws; once the signal is aborted, the last temporary error, or the signal's reason.
 */
export async function retryTemporary<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  let last: unknown;
  try {
    for (;;) {
      try {
        return await abortable(work(), signal);
      } catch (error) {
        if (signal.aborted || !isTemporary(error)) throw error;
        last = error;
      }
      await abortable(Bun.sleep(PAUSE_MS), signal);
    }
  } catch (error) {
    throw error === signal.reason ? (last ?? error) : error;
  }
}
