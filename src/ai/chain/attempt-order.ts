import type { AttemptReport } from "../attempt/attempt.ts";
import type { ProviderError } from "../provider.ts";
import { calculateDelayMs, RETRY_AFTER_WAIT_MAX_MS } from "./backoff.ts";
import type { Breaker } from "./breaker.ts";

export type NextAttempt = { model: string; report: AttemptReport; delayMs: number };

export type AttemptOrderOptions = {
  /** The requested model first, then the fallbacks in order. */
  models: readonly string[];
  breakers: ReadonlyMap<string, Breaker>;
  maxRetries: number;
  backoffBaseMs: number;
};

/** The attempts of one model in this run. */
type ModelRecord = { attempts: number; isExhausted: boolean; isDeferred: boolean; retryAfterMs: number | null };

/**
 * Decides which model a run tries next. A model that failed fast is retried with backoff, up to `maxRetries` times. One that
 * timed out or failed mid-answer yields to the next and is tried again only if no other is left. Models that are cooling
 * down are skipped; if all are, the one available soonest is tried anyway, since an attempt costs less than a certain
 * failure.
 */
export function createAttemptOrder({ models, breakers, maxRetries, backoffBaseMs }: AttemptOrderOptions) {
  const records = new Map<string, ModelRecord>(
    models.map((model) => [model, { attempts: 0, isExhausted: false, isDeferred: false, retryAfterMs: null }]),
  );
  let current: string | null = null;
  let lastResort: string | null = null;

  const get = (model: string): { record: ModelRecord; breaker: Breaker } => {
    const record = records.get(model);
    const breaker = breakers.get(model);
    if (!record || !breaker) throw new Error(`The model ${model} is not part of the run.`);
    return { record, breaker };
  };

  function* listCandidates(): Generator<string> {
    const canRetry = (model: string) => !get(model).record.isExhausted;
    if (current !== null && canRetry(current) && !get(current).record.isDeferred) yield current;
    for (const model of models) if (canRetry(model) && get(model).record.attempts === 0) yield model;
    for (const model of models) if (canRetry(model) && get(model).record.isDeferred) yield model;
  }

  function findLastResort(): string | null {
    const untilMs = (model: string) => {
      const state = get(model).breaker.state();
      return state.state === "available" ? 0 : state.until.getTime();
    };
    const left = models.filter((model) => !get(model).record.isExhausted);
    lastResort ??= left.sort((one, other) => untilMs(one) - untilMs(other))[0] ?? null;
    return lastResort !== null && left.includes(lastResort) ? lastResort : null;
  }

  function take(model: string, report: AttemptReport): NextAttempt {
    const { record } = get(model);
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
        const report = get(model).breaker.tryAdmit();
        if (report) return take(model, report);
      }
      const model = findLastResort();
      return model === null ? null : take(model, get(model).breaker.admit());
    },
    /** Records a failed attempt. `isShown`: the reader has seen text of this answer. */
    fail(model: string, error: ProviderError, isShown: boolean): void {
      const { record } = get(model);
      const isTooLate = (error.retryAfterMs ?? 0) > RETRY_AFTER_WAIT_MAX_MS;
      record.retryAfterMs = error.retryAfterMs;
      record.isExhausted = !error.retryable || isTooLate || record.attempts > maxRetries;
      record.isDeferred = isShown || error.code === "provider_timeout";
    },
  };
}
