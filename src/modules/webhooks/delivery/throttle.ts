/** Time window for counting this instance's events. */
const WINDOW_MS = 100;
/** Below this event rate per second, deliveries aren't throttled. */
const UNTHROTTLED_EVENTS_PER_S = 300;
/** An instance's delivery rate: reduced by this much per committed event per second, but never to zero. */
const DELIVERIES_PER_S = 6_000;
const DELIVERIES_PER_EVENT = 3;
const DELIVERIES_PER_S_MIN = 150;
/** Deliveries that wait longer than this are no longer throttled. */
const LAG_MS_MAX = 30_000;
/** The longest pause to make up for, in milliseconds. */
const BURST_MS = 50;

/**
 * Throttles deliveries while this instance commits many events: deliveries are stored and can wait some seconds, while
 * senders wait for each commit.
 */
export function createDeliveryThrottle(now: () => number = performance.now.bind(performance)) {
  let windowAtMs = now();
  let counted = 0;
  let eventsPerS = 0;
  let lagMs = 0;
  let tokens = 0;
  let filledAtMs = now();

  function updateRate(): number {
    const nowMs = now();
    const elapsedMs = nowMs - windowAtMs;
    if (elapsedMs >= WINDOW_MS) {
      eventsPerS = (counted * 1_000) / elapsedMs;
      counted = 0;
      windowAtMs = nowMs;
    }
    return nowMs;
  }

  /** Deliveries per second; infinite: unthrottled. */
  function findLimit(): number {
    if (eventsPerS < UNTHROTTLED_EVENTS_PER_S || lagMs > LAG_MS_MAX) return Number.POSITIVE_INFINITY;
    return Math.max(DELIVERIES_PER_S_MIN, DELIVERIES_PER_S - DELIVERIES_PER_EVENT * eventsPerS);
  }

  return {
    /** An event was committed here. */
    countEvent(): void {
      counted += 1;
    },

    /** Records how long a delivery has waited for its first attempt. */
    recordLag(ms: number): void {
      lagMs = ms;
    },

    /** Whether another delivery may start now. */
    take(): boolean {
      const nowMs = updateRate();
      const limit = findLimit();
      if (limit === Number.POSITIVE_INFINITY) return true;
      const burst = (limit * BURST_MS) / 1_000;
      tokens = Math.min(burst, tokens + ((nowMs - filledAtMs) * limit) / 1_000);
      filledAtMs = nowMs;
      if (tokens < 1) return false;
      tokens -= 1;
      return true;
    },

    /** How long to pause after this many deliveries, in milliseconds. */
    findPause(deliveries: number): number {
      updateRate();
      const limit = findLimit();
      return limit === Number.POSITIVE_INFINITY ? 0 : (deliveries * 1_000) / limit;
    },

    /** Whether deliveries are throttled. */
    isThrottled(): boolean {
      updateRate();
      return findLimit() !== Number.POSITIVE_INFINITY;
    },
  };
}

export type DeliveryThrottle = ReturnType<typeof createDeliveryThrottle>;
