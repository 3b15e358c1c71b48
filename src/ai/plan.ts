import { calculateDelayMs, RETRY_AFTER_WAIT_MAX_MS } from "./backoff.ts";
import type { Breaker, Pass } from "./breaker.ts";
import type { ProviderError } from "./provider.ts";

export type Turn = { model: string; pass: Pass; delayMs: number };

export type PlanOptions = {
  /** The requested model first, then the others in order. */
  models: readonly string[];
  breakers: ReadonlyMap<string, Breaker>;
  maxRetries: number;
  backoffBaseMs: number;
};

/** How one model fares in this run. */
type Standing = { tries: number; isOut: boolean; isParked: boolean; retryAfterMs: number | null };

/**
 * Decides which model is asked next in one run. A model that failed fast is asked again, after a pause, up to
 * `maxRetries` times; one that kept the reader waiting or broke in mid-answer makes way for the next, and comes back
 * only when no other is left. Models that cool down are passed over; when all of them do, the one that is soonest
 * available is asked nevertheless, since a try costs less than a certain failure.
 */
export function createPlan({ models, breakers, maxRetries, backoffBaseMs }: PlanOptions) {
  const standings = new Map<string, Standing>(
    models.map((model) => [model, { tries: 0, isOut: false, isParked: false, retryAfterMs: null }]),
  );
  let current: string | null = null;
  let lastResort: string | null = null;

  const get = (model: string): { standing: Standing; breaker: Breaker } => {
    const standing = standings.get(model);
    const breaker = breakers.get(model);
    if (!standing || !breaker) throw new Error(`The model ${model} is not part of the plan.`);
    return { standing, breaker };
  };

  function* listCandidates(): Generator<string> {
    const isLeft = (model: string) => !get(model).standing.isOut;
    if (current !== null && isLeft(current) && !get(current).standing.isParked) yield current;
    for (const model of models) if (isLeft(model) && get(model).standing.tries === 0) yield model;
    for (const model of models) if (isLeft(model) && get(model).standing.isParked) yield model;
  }

  function findLastResort(): string | null {
    const untilMs = (model: string) => {
      const state = get(model).breaker.state();
      return state.state === "available" ? 0 : state.until.getTime();
    };
    const left = models.filter((model) => !get(model).standing.isOut);
    lastResort ??= left.sort((one, other) => untilMs(one) - untilMs(other))[0] ?? null;
    return lastResort !== null && left.includes(lastResort) ? lastResort : null;
  }

  function take(model: string, pass: Pass): Turn {
    const { standing } = get(model);
    const delayMs = standing.tries === 0 ? 0 : calculateDelayMs(standing.tries, standing.retryAfterMs, backoffBaseMs);
    standing.tries += 1;
    standing.isParked = false;
    current = model;
    return { model, pass, delayMs };
  }

  return {
    /** The next request to make after `delayMs`, or null when nothing is left to try. */
    next(): Turn | null {
      for (const model of listCandidates()) {
        const pass = get(model).breaker.tryEnter();
        if (pass) return take(model, pass);
      }
      const model = findLastResort();
      return model === null ? null : take(model, get(model).breaker.enter());
    },
    /** Notes how the last request failed. `isShown`: the reader has seen text of this answer. */
    fail(model: string, error: ProviderError, isShown: boolean): void {
      const { standing } = get(model);
      const isTooLate = (error.retryAfterMs ?? 0) > RETRY_AFTER_WAIT_MAX_MS;
      standing.retryAfterMs = error.retryAfterMs;
      standing.isOut = !error.retryable || isTooLate || standing.tries > maxRetries;
      standing.isParked = isShown || error.code === "provider_timeout";
    },
  };
}
