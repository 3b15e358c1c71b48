import { abortable } from "../lib/abortable.ts";
import { Problem } from "../lib/problem.ts";
import { findTemporaryProblem } from "./errors.ts";

const PAUSE_MS = 500;

/** Whether the same may work later: a row was locked, the database was away, too slow or overloaded. */
export const isTemporary = (error: unknown): boolean =>
  error instanceof Problem
    ? error.code === "overloaded" || error.code === "unavailable"
    : findTemporaryProblem(error) !== undefined;

/**
 * Repeats `work` as long as it fails with what is temporary. For what must not be lost; requests are refused instead, so that
 * their clients can try again.
 * @param signal ends it, also while a try is in flight.
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
