/** Events of this instance are counted for so long. */
const WINDOW_MS = 100;
/** With fewer events a second, deliveries are not held back. */
const QUIET_EVENTS_PER_S = 300;
/** What an instance may deliver a second: so much less for each event that it commits a second, but never nothing. */
const DELIVERIES_PER_S = 6_000;
const DELIVERIES_PER_EVENT = 3;
const DELIVERIES_PER_S_MIN = 150;
/** Deliveries that wait longer than this are held back no more. */
const LAG_MS_MAX = 30_000;
/** What may be made up for after a pause, in milliseconds. */
const BURST_MS = 50;

/**
 * Holds deliveries back while this instance has many events to commit: they are stored and can wait for some seconds, while
 * those who send wait for each commit.
 */
export function createPace(now: () => number = performance.now.bind(performance)) {
  let windowAtMs = now();
  let counted = 0;
  let eventsPerS = 0;
  let lagMs = 0;
  let places = 0;
  let filledAtMs = now();

  function look(): number {
    const nowMs = now();
    const elapsedMs = nowMs - windowAtMs;
    if (elapsedMs >= WINDOW_MS) {
      eventsPerS = (counted * 1_000) / elapsedMs;
      counted = 0;
      windowAtMs = nowMs;
    }
    return nowMs;
  }

  /** Deliveries a second; infinite: as fast as it goes. */
  function findLimit(): number {
    if (eventsPerS < QUIET_EVENTS_PER_S || lagMs > LAG_MS_MAX) return Number.POSITIVE_INFINITY;
    return Math.max(DELIVERIES_PER_S_MIN, DELIVERIES_PER_S - DELIVERIES_PER_EVENT * eventsPerS);
  }

  return {
    /** An event was committed here. */
    countEvent(): void {
      counted += 1;
    },

    /** How long a delivery has waited for its first attempt. */
    noteLag(ms: number): void {
      lagMs = ms;
    },

    /** Whether another delivery may begin now. */
    take(): boolean {
      const nowMs = look();
      const limit = findLimit();
      if (limit === Number.POSITIVE_INFINITY) return true;
      const burst = (limit * BURST_MS) / 1_000;
      places = Math.min(burst, places + ((nowMs - filledAtMs) * limit) / 1_000);
      filledAtMs = nowMs;
      if (places < 1) return false;
      places -= 1;
      return true;
    },

    /** How long the next deliveries need not be made, when so many were made now, in milliseconds. */
    findPause(deliveries: number): number {
      look();
      const limit = findLimit();
      return limit === Number.POSITIVE_INFINITY ? 0 : (deliveries * 1_000) / limit;
    },

    /** Whether deliveries are held back. */
    isHeldBack(): boolean {
      look();
      return findLimit() !== Number.POSITIVE_INFINITY;
    },
  };
}

export type Pace = ReturnType<typeof createPace>;
