import type { AttemptReport } from "../attempt/attempt.ts";
import type { ProviderError } from "../provider.ts";
import { calculateDelayMs, RETRY_AFTER_WAIT_MAX_MS } from "./backoff.ts";
import type { Breaker } from "./breaker.ts";

export type NextAttempt = { model: string; report: AttemptReport; delayMs: number };

export type AttemptOrderOptions = {
  /** The requested model, followed by the fallbacks in order. */
  models: readonly string[];
  breakers: ReadonlyMap<string, Breaker>;
  maxRetries: number;
  backoffBaseMs: number;
};

/** The attempts of one model in this run. */
type ModelRecord = { attempts: number; isExhausted: boolean; isDeferred: boolean; retryAfterMs: number | null };

/**
 * Decides which model a run tries next.
 * - A model that fails before it has shown text is retried with backoff, up to `maxRetries` times.
 * - After a timeout or a failure mid-answer, the other models are tried first.
 * - Models that are cooling down are skipped. If all of them are, the one whose cool-down ends first is tried anyway.
 */
export function createAttemptOrder({ models, breakers, maxRetries, backoffBaseMs }: AttemptOrderOptions) {
  const records = new Map<string, ModelRecord>(
    models.map((model) => [model, { attempts: 0, isExhausted: false, isDeferred: false, retryAfterMs: null }]),
  );
  let current: string | null = null;
  let lastResort: string | null = null;

  const getEntry = (model: string): { record: ModelRecord; breaker: Breaker } => {
    const record = records.get(model);
    const breaker = breakers.get(model);
    if (!record || !breaker) throw new Error(`The model ${model} is not part of the run.`);
    return { record, breaker };
  };

  function* listCandidates(): Generator<string> {
    const canTry = (model: string) => !getEntry(model).record.isExhausted;
    if (current !== null && canTry(current) && !getEntry(current).record.isDeferred) yield current;
    for (const model of models) if (canTry(model) && getEntry(model).record.attempts === 0) yield model;
    for (const model of models) if (canTry(model) && getEntry(model).record.isDeferred) yield model;
  }

  function findLastResort(): string | null {
    const getAvailableAtMs = (model: string) => {
      const state = getEntry(model).breaker.getState();
      return state.state === "available" ? 0 : state.until.getTime();
    };
    const candidates = models.filter((model) => !getEntry(model).record.isExhausted);
    lastResort ??= candidates.sort((a, b) => getAvailableAtMs(a) - getAvailableAtMs(b))[0] ?? null;
    return lastResort !== null && candidates.includes(lastResort) ? lastResort : null;
  }

  function startAttempt(model: string, report: AttemptReport): NextAttempt {
    const { record } = getEntry(model);
    const delayMs = record.attempts === 0 ? 0 : calculateDelayMs(record.attempts, record.retryAfterMs, backoffBaseMs);
    record.attempts += 1;
    record.isDeferred = false;
    current = model;
    return { model, report, delayMs };
  }

  return {
    /** Returns the attempt to make after `delayMs`, or null if no model is left. */
    next(): NextAttempt | null {
      for (const model of listCandidates()) {
        const report = getEntry(model).breaker.tryAdmit();
        if (report) return startAttempt(model, report);
      }
      const model = findLastResort();
      return model === null ? null : startAttempt(model, getEntry(model).breaker.admit());
    },
    /** Records a failed attempt. */
    recordFailure(model: string, error: ProviderError, hasShownText: boolean): void {
      const { record } = getEntry(model);
      const isWaitTooLong = (error.retryAfterMs ?? 0) > RETRY_AFTER_WAIT_MAX_MS;
      record.retryAfterMs = error.retryAfterMs;
      record.isExhausted = !error.retryable || isWaitTooLong || record.attempts > maxRetries;
      record.isDeferred = hasShownText || error.code === "provider_timeout";
    },
  };
}
