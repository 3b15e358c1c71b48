import type { AboutRun } from "../about-run.ts";
import type { AttemptReport } from "../attempt/attempt.ts";
import { RETRY_AFTER_WAIT_MAX_MS } from "./backoff.ts";

export type BreakerOptions = {
  /** Failures in a row that open the breaker. */
  failuresMax: number;
  /** First pause; it doubles each time that the breaker opens again, up to `coolDownMaxMs`. */
  coolDownMs: number;
  coolDownMaxMs: number;
};

export const defaultBreakerOptions: BreakerOptions = { failuresMax: 3, coolDownMs: 15_000, coolDownMaxMs: 300_000 };

export type BreakerState = { state: "available" } | { state: "cooling_down"; until: Date };

/** @param about the run whose failure changed it; a success is about no run. */
type OnChange = (state: BreakerState["state"], about?: AboutRun) => void;

export type Breaker = ReturnType<typeof createBreaker>;

/**
 * A circuit breaker for streams. After `failuresMax` failures in a row it admits nothing for a while, then one attempt
 * (half-open), and after the first token of that everybody; the next failure opens it again for longer. Written out here
 * because libraries wrap a promise: a stream proves itself at its first token and may still fail at its last, and nobody
 * should wait for the whole of an attempt that takes a minute.
 */
export function createBreaker(options: BreakerOptions, onChange: OnChange = () => {}) {
  let failures = 0;
  let openings = 0;
  let untilMs = 0;
  // Rises with each opening: the verdicts of attempts from before it are stale.
  let epoch = 0;
  /** The attempt that was admitted alone, until its first token or its end. */
  let halfOpen: AttemptReport | null = null;
  let isProven = false;

  const isCooling = () => Date.now() < untilMs;
  const isClosed = () => openings === 0;

  function open(pauseMs: number, about: AboutRun | undefined): void {
    openings += 1;
    epoch += 1;
    isProven = false;
    untilMs = Date.now() + Math.min(pauseMs, options.coolDownMaxMs);
    onChange("cooling_down", about);
  }

  function fail(retryAfterMs: number, about: AboutRun | undefined): void {
    failures += 1;
    // Only a caller without another way gets here while it cools down: no reason to make the pause longer.
    if (isCooling()) return;
    const isTold = retryAfterMs > RETRY_AFTER_WAIT_MAX_MS;
    if (!isTold && isClosed() && failures < options.failuresMax) return;
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
      /** Others need not wait for the end of this attempt. */
      firstToken() {
        if (halfOpen !== report) return;
        halfOpen = null;
        isProven = true;
      },
      succeed: () => end(succeed),
      /** A `retryAfterMs` that is too long to be waited for opens the breaker at once, for that long. */
      fail: (failure) => end(() => fail(failure?.retryAfterMs ?? 0, failure?.about)),
      leave: () => end(),
    };
    return report;
  }

  return {
    state(): BreakerState {
      return isCooling() ? { state: "cooling_down", until: new Date(untilMs) } : { state: "available" };
    },
    /** Admits an attempt. Null while cooling down, or while the one that was admitted alone has no token yet. */
    tryAdmit(): AttemptReport | null {
      if (isCooling() || halfOpen) return null;
      const report = createReport();
      if (!isClosed() && !isProven) halfOpen = report;
      return report;
    },
    /** Admits an attempt in any state, for the caller that has no other way. */
    admit: createReport,
  };
}
