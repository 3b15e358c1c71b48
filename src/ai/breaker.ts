import { RETRY_AFTER_WAIT_MAX_MS } from "./backoff.ts";

export type BreakerOptions = {
  /** Failures in a row that open the breaker. */
  failuresMax: number;
  /** First pause; it doubles with each trial that fails, up to `coolDownMaxMs`. */
  coolDownMs: number;
  coolDownMaxMs: number;
};

export const defaultBreakerOptions: BreakerOptions = { failuresMax: 3, coolDownMs: 15_000, coolDownMaxMs: 300_000 };

export type BreakerState = { state: "available" } | { state: "cooling_down"; until: Date };

/** One request's way through the breaker: exactly one of `succeed`, `fail` and `leave` ends it; later calls do nothing. */
export type Pass = {
  /** The first token came: others need not wait for the end of this trial. */
  prove(): void;
  succeed(): void;
  /** `retryAfterMs` that is too long to be waited for opens the breaker at once, for that long. */
  fail(failure?: { retryAfterMs: number | null }): void;
  /** Ended without a verdict: stopped by the user, or a request that was at fault itself. */
  leave(): void;
};

export type Breaker = ReturnType<typeof createBreaker>;

/**
 * A circuit breaker for streams. After `failuresMax` failures in a row it lets nothing pass for a while, then one trial,
 * and after the trial's first token everybody; the next failure opens it again for longer. Written out here because
 * libraries wrap a promise: a stream proves itself at its first token and may still fail at its last, and nobody should
 * wait for the whole of a trial that takes a minute.
 */
export function createBreaker(options: BreakerOptions, onChange: (state: BreakerState["state"]) => void = () => {}) {
  let failures = 0;
  let openings = 0;
  let untilMs = 0;
  // Rises with each opening: the verdicts of requests from before it are stale.
  let epoch = 0;
  let trial: Pass | null = null;
  let isProven = false;

  const isCooling = () => Date.now() < untilMs;
  const isClosed = () => openings === 0;

  function open(pauseMs: number): void {
    openings += 1;
    epoch += 1;
    isProven = false;
    untilMs = Date.now() + Math.min(pauseMs, options.coolDownMaxMs);
    onChange("cooling_down");
  }

  function fail(retryAfterMs: number): void {
    failures += 1;
    // Only a caller without another way gets here while it cools down: no reason to make the pause longer.
    if (isCooling()) return;
    const isTold = retryAfterMs > RETRY_AFTER_WAIT_MAX_MS;
    if (!isTold && isClosed() && failures < options.failuresMax) return;
    open(Math.max(retryAfterMs, options.coolDownMs * 2 ** openings));
  }

  function succeed(): void {
    const wasClosed = isClosed();
    failures = 0;
    openings = 0;
    untilMs = 0;
    if (!wasClosed) onChange("available");
  }

  function createPass(): Pass {
    const bornIn = epoch;
    let isOver = false;
    const end = (verdict?: () => void) => {
      if (isOver) return;
      isOver = true;
      if (trial === pass) trial = null;
      if (bornIn === epoch) verdict?.();
    };
    const pass: Pass = {
      prove() {
        if (trial !== pass) return;
        trial = null;
        isProven = true;
      },
      succeed: () => end(succeed),
      fail: (failure) => end(() => fail(failure?.retryAfterMs ?? 0)),
      leave: () => end(),
    };
    return pass;
  }

  return {
    state(): BreakerState {
      return isCooling() ? { state: "cooling_down", until: new Date(untilMs) } : { state: "available" };
    },
    /** A pass, or null while cooling down or while a trial has not shown its first token. */
    tryEnter(): Pass | null {
      if (isCooling() || trial) return null;
      const pass = createPass();
      if (!isClosed() && !isProven) trial = pass;
      return pass;
    },
    /** A pass in any state, for the caller that has no other way. */
    enter: createPass,
  };
}
