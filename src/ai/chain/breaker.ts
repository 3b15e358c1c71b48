import type { AttemptReport } from "../attempt/attempt.ts";
import type { RunContext } from "../run-context.ts";
import { RETRY_AFTER_WAIT_MAX_MS } from "./backoff.ts";

export type BreakerOptions = {
  /** Number of consecutive failures that open the breaker. */
  failuresMax: number;
  /** Duration of the first cool-down. It doubles each time the breaker reopens, up to `coolDownMaxMs`. */
  coolDownMs: number;
  coolDownMaxMs: number;
};

export const defaultBreakerOptions: BreakerOptions = { failuresMax: 3, coolDownMs: 15_000, coolDownMaxMs: 300_000 };

export type BreakerState = { state: "available" } | { state: "cooling_down"; until: Date };

/** @param logContext the run whose failure caused the change. Undefined after a success. */
type OnChange = (state: BreakerState["state"], logContext?: RunContext) => void;

export type Breaker = ReturnType<typeof createBreaker>;

/**
 * Creates a circuit breaker for streams. After `failuresMax` consecutive failures, it rejects attempts during a cool-down. Then
 * it admits a single attempt (half-open). As soon as that attempt has received its first token, others are admitted too. The
 * breaker closes when an attempt succeeds; a failure before that reopens it for longer. No library is used, because
 * libraries only support promises: other requests would have to wait until the half-open attempt has finished, which can take
 * a minute.
 */
export function createBreaker(options: BreakerOptions, onChange: OnChange = () => {}) {
  let failures = 0;
  let openings = 0;
  let coolDownEndMs = 0;
  // Incremented each time the breaker opens. Results of attempts from earlier epochs are ignored.
  let epoch = 0;
  /** The single attempt in the half-open state, until its first token or its end. */
  let halfOpenAttempt: AttemptReport | null = null;
  let hasRecovered = false;

  const isCoolingDown = () => Date.now() < coolDownEndMs;
  const isClosed = () => openings === 0;

  function open(durationMs: number, logContext: RunContext | undefined): void {
    openings += 1;
    epoch += 1;
    hasRecovered = false;
    coolDownEndMs = Date.now() + Math.min(durationMs, options.coolDownMaxMs);
    onChange("cooling_down", logContext);
  }

  function fail(retryAfterMs: number, logContext: RunContext | undefined): void {
    failures += 1;
    // During a cool-down, only callers that have no other model make attempts. Their failures don't extend the cool-down.
    if (isCoolingDown()) return;
    const hasLongRetryAfter = retryAfterMs > RETRY_AFTER_WAIT_MAX_MS;
    if (!hasLongRetryAfter && isClosed() && failures < options.failuresMax) return;
    open(Math.max(retryAfterMs, options.coolDownMs * 2 ** openings), logContext);
  }

  function succeed(): void {
    const wasClosed = isClosed();
    failures = 0;
    openings = 0;
    coolDownEndMs = 0;
    if (!wasClosed) onChange("available");
  }

  function createReport(): AttemptReport {
    const startEpoch = epoch;
    let hasEnded = false;
    const end = (apply?: () => void) => {
      if (hasEnded) return;
      hasEnded = true;
      if (halfOpenAttempt === report) halfOpenAttempt = null;
      if (startEpoch === epoch) apply?.();
    };
    const report: AttemptReport = {
      /** Admits other attempts before this one has ended. */
      recordFirstToken() {
        if (halfOpenAttempt !== report) return;
        halfOpenAttempt = null;
        hasRecovered = true;
      },
      succeed: () => end(succeed),
      /** If `retryAfterMs` is too long to wait for, the breaker opens immediately, for at least that long. */
      fail: (failure) => end(() => fail(failure?.retryAfterMs ?? 0, failure?.logContext)),
      release: () => end(),
    };
    return report;
  }

  return {
    getState(): BreakerState {
      return isCoolingDown() ? { state: "cooling_down", until: new Date(coolDownEndMs) } : { state: "available" };
    },
    /** Admits an attempt. Returns null during a cool-down, or while the half-open attempt has no token yet. */
    tryAdmit(): AttemptReport | null {
      if (isCoolingDown() || halfOpenAttempt) return null;
      const report = createReport();
      if (!isClosed() && !hasRecovered) halfOpenAttempt = report;
      return report;
    },
    /** Admits an attempt in any state, for callers that have no other model. */
    admit: createReport,
  };
}
