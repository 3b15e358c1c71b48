/** Duration of the window in which this instance's events are counted. */
const WINDOW_MS = 100;
/** Deliveries are throttled only if there are at least this many events per second. */
const UNTHROTTLED_EVENTS_PER_S = 300;
/** Maximum deliveries per second and instance while throttled, before the reduction by DELIVERIES_PER_EVENT. */
const DELIVERIES_PER_S = 6_000;
/** Each committed event per second reduces the deliveries per second by this number. */
const DELIVERIES_PER_EVENT = 3;
/** The minimum deliveries per second after the reduction. */
const DELIVERIES_PER_S_MIN = 150;
/** Maximum time for which deliveries may wait while throttled. If they have waited longer, they are not throttled. */
const LAG_MS_MAX = 30_000;
/** Maximum burst after a pause: the number of deliveries that the limit allows within this time. */
const BURST_WINDOW_MS = 50;

/**
 * Throttles deliveries while this instance commits many events, because users wait for commits. Deliveries are stored and can wait.
 */
export function createDeliveryThrottle(now: () => number = performance.now.bind(performance)) {
  let windowStartedAtMs = now();
  let eventsInWindow = 0;
  let eventsPerS = 0;
  let lagMs = 0;
  let tokens = 0;
  let filledAtMs = now();

  /** Updates `eventsPerS` if the window is over. Returns the current time. */
  function updateRate(): number {
    const nowMs = now();
    const elapsedMs = nowMs - windowStartedAtMs;
    if (elapsedMs >= WINDOW_MS) {
      eventsPerS = (eventsInWindow * 1_000) / elapsedMs;
      eventsInWindow = 0;
      windowStartedAtMs = nowMs;
    }
    return nowMs;
  }

  /** Returns the maximum deliveries per second; infinity if deliveries aren't throttled. */
  function computeDeliveriesPerS(): number {
    if (eventsPerS < UNTHROTTLED_EVENTS_PER_S || lagMs > LAG_MS_MAX) return Number.POSITIVE_INFINITY;
    return Math.max(DELIVERIES_PER_S_MIN, DELIVERIES_PER_S - DELIVERIES_PER_EVENT * eventsPerS);
  }

  return {
    /** Call this when this instance has committed an event. */
    countEvent(): void {
      eventsInWindow += 1;
    },

    /** Records the time for which a delivery has waited for its first attempt. */
    recordLag(ms: number): void {
      lagMs = ms;
    },

    /** Returns whether another delivery may start now. If so, counts it. */
    tryStart(): boolean {
      const nowMs = updateRate();
      const deliveriesPerS = computeDeliveriesPerS();
      if (deliveriesPerS === Number.POSITIVE_INFINITY) return true;
      const tokensMax = (deliveriesPerS * BURST_WINDOW_MS) / 1_000;
      tokens = Math.min(tokensMax, tokens + ((nowMs - filledAtMs) * deliveriesPerS) / 1_000);
      filledAtMs = nowMs;
      if (tokens < 1) return false;
      tokens -= 1;
      return true;
    },

    /** Returns how long to pause after creating this number of deliveries. */
    computePauseMs(deliveryCount: number): number {
      updateRate();
      const deliveriesPerS = computeDeliveriesPerS();
      return deliveriesPerS === Number.POSITIVE_INFINITY ? 0 : (deliveryCount * 1_000) / deliveriesPerS;
    },

    /** Returns whether deliveries are throttled. */
    isThrottled(): boolean {
      updateRate();
      return computeDeliveriesPerS() !== Number.POSITIVE_INFINITY;
    },
  };
}

export type DeliveryThrottle = ReturnType<typeof createDeliveryThrottle>;
