import { abortable } from "../lib/abortable.ts";
import { Problem } from "../lib/problem.ts";
import { findTemporaryProblem } from "./errors.ts";

const RETRY_DELAY_MS = 500;

/** Returns whether a retry may succeed, because a row was locked, or the database was unavailable, too slow or overloaded. */
export const isTemporary = (error: unknown): boolean =>
  error instanceof Problem
    ? error.code === "overloaded" || error.code === "unavailable"
    : findTemporaryProblem(error) !== undefined;

/**
 * Runs `work`, and retries it while it fails with temporary errors. Use it for work that must not be lost. Don't use it for
 * requests, because their clients can retry them.
 * @param signal stops retrying, even during an attempt.
 * @throws other errors of `work`. Once the signal is aborted, throws the last temporary error or the signal's reason.
 */
export async function retryTemporary<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  let lastError: unknown;
  try {
    for (;;) {
      try {
        return await abortable(work(), signal);
      } catch (error) {
        if (signal.aborted || !isTemporary(error)) throw error;
        lastError = error;
      }
      await abortable(Bun.sleep(RETRY_DELAY_MS), signal);
    }
  } catch (error) {
    throw error === signal.reason ? (lastError ?? error) : error;
  }
}
