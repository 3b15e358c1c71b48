import type { AttemptReport } from "../attempt/attempt.ts";
import type { RunContext } from "../run-context.ts";
import { RETRY_AFTER_WAIT_MAX_MS } from "./backoff.ts";

export type BreakerOptions = {
  /** Consecutive failures that open the breaker. */
  failuresMax: number;
  /** First cool-down; it doubles each time the breaker reopens, up to `coolDownMaxMs`. */
  coolDownMs: number;
  coolDownMaxMs: number;
};

export const defaultBreakerOptions: BreakerOptions = { failuresMax: 3, coolDownMs: 15_000, coolDownMaxMs: 300_000 };

export type BreakerState = { state: "available" } | { state: "cooling_down"; until: Date };

/** @param about the run whose failure caused the change; absent after a success. */
type OnChange = (state: BreakerState["state"], about?: RunContext) => void;

export type Breaker = ReturnType<typeof createBreaker>;

/**
 * A circuit breaker for streams. After `failuresMax` consecutive failures it rejects attempts for a while, then admits one
 * (half-open), and closes after that attempt's first token; the next failure reopens it for longer. Not a library, because
 * libraries wrap a promise: a stream proves itself at its first token and may still fail at its last, and others should not
 * wait for a whole attempt that takes a minute.
 */
export function createBreaker(options: BreakerOptions, onChange: OnChange = () => {}) {
  let failures = 0;
  let openings = 0;
  let untilMs = 0;
  // Incremented at each opening; results of earlier attempts are stale.
  let epoch = 0;
  /** The single attempt of the half-open state, until its first token or its end. */
  let halfOpen: AttemptReport | null = null;
  let isProven = false;

  const isCooling = () => Date.now() < untilMs;
  const isClosed = () => openings === 0;

  function open(pauseMs: number, about: RunContext | undefined): void {
    openings += 1;
    epoch += 1;
    isProven = false;
    untilMs = Date.now() + Math.min(pauseMs, options.coolDownMaxMs);
    onChange("cooling_down", about);
  }

  function fail(retryAfterMs: number, about: RunContext | undefined): void {
    failures += 1;
    // Only a caller without another model gets here during the cool-down, so the cool-down isn't extended.
    if (isCooling()) return;
    const hasLongRetryAfter = retryAfterMs > RETRY_AFTER_WAIT_MAX_MS;
    if (!hasLongRetryAfter && isClosed() && failures < options.failuresMax) return;
    open(Math.max(retryAfterMs, options.coolDownMs * 2 ** openings), about);
  }

  function succeed(): void {
    const wasClosed = isClosed();
    failures = 0;
    openings = 0;
    untilMs = 0;
    if (!wasClosed) onChange("available");
  }

  function createReport(): AttemptReport {
    const bornIn = epoch;
    let isOver = false;
    const end = (verdict?: () => void) => {
      if (isOver) return;
      isOver = true;
      if (halfOpen === report) halfOpen = null;
      if (bornIn === epoch) verdict?.();
    };
    const report: AttemptReport = {
      /** Others don't have to wait for this attempt to end. */
      firstToken() {
        if (halfOpen !== report) return;
        halfOpen = null;
        isProven = true;
      },
      succeed: () => end(succeed),
      /** A `retryAfterMs` that is too long to wait for opens the breaker immediately, for that long. */
      fail: (failure) => end(() => fail(failure?.retryAfterMs ?? 0, failure?.about)),
      leave: () => end(),
    };
    return report;
  }

  return {
    state(): BreakerState {
      return isCooling() ? { state: "cooling_down", until: new Date(untilMs) } : { state: "available" };
    },
    /** Admits an attempt. Null while cooling down, or while the half-open attempt has no token yet. */
    tryAdmit(): AttemptReport | null {
      if (isCooling() || halfOpen) return null;
      const report = createReport();
      if (!isClosed() && !isProven) halfOpen = report;
      return report;
    },
    /** Admits an attempt in any state, for callers without another model. */
    admit: createReport,
  };
}
