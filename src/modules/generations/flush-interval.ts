/** The minimum interval at which deltas are pushed, so that a very fast model doesn't need a push per token. */
export const FLUSH_MS_MIN = 4;
/** The maximum interval, used under load. To readers, 15 pushes a second still look continuous. */
export const FLUSH_MS_MAX = 66;

/** The interval at which the load is measured while answers are written. */
const MEASUREMENT_INTERVAL_MS = 200;
/** Above either of these values, the interval doubles. */
const BUSY_ABOVE = { cpuShare: 0.7, lagMs: 15 };
/** Below both of these values, the interval halves. */
const CALM_BELOW = { cpuShare: 0.5, lagMs: 8 };
/** The weight of the newest measurement. It is low, so that a single garbage collection doesn't count as load. */
const NEWEST_WEIGHT = 0.3;

/** The load of this thread: its CPU share, and how late its timers fire. */
export type Load = { cpuShare: number; lagMs: number };

/** Returns the next interval. @param intervalMs the current interval. */
export function nextFlushMs(intervalMs: number, { cpuShare, lagMs }: Load): number {
  if (cpuShare > BUSY_ABOVE.cpuShare || lagMs > BUSY_ABOVE.lagMs) return Math.min(FLUSH_MS_MAX, intervalMs * 2);
  if (cpuShare < CALM_BELOW.cpuShare && lagMs < CALM_BELOW.lagMs) return Math.max(FLUSH_MS_MIN, intervalMs / 2);
  return intervalMs;
}

/**
 * Creates a function that returns the interval at which deltas are pushed. It depends on the instance's load, not on the number of
 * answers, because hundreds of slow answers cost less than a few fast ones with many readers. The load is measured only while the
 * function is being called.
 */
export function createFlushInterval({ getCpuTimeMs, getTimeMs }: Clocks = systemClocks): () => number {
  let intervalMs = FLUSH_MS_MIN;
  let load: Load = { cpuShare: 0, lagMs: 0 };
  let wasCalled = false;
  let isMeasuring = false;

  function measure(): void {
    isMeasuring = true;
    wasCalled = false;
    const startedAtMs = getTimeMs();
    const startedCpuMs = getCpuTimeMs();
    setTimeout(() => {
      const elapsedMs = getTimeMs() - startedAtMs;
      load = {
        cpuShare: smooth(load.cpuShare, (getCpuTimeMs() - startedCpuMs) / elapsedMs),
        lagMs: smooth(load.lagMs, Math.max(0, elapsedMs - MEASUREMENT_INTERVAL_MS)),
      };
      intervalMs = nextFlushMs(intervalMs, load);
      isMeasuring = false;
      if (wasCalled || intervalMs > FLUSH_MS_MIN) measure();
    }, MEASUREMENT_INTERVAL_MS).unref();
  }

  return () => {
    wasCalled = true;
    if (!isMeasuring) measure();
    return intervalMs;
  };
}

const smooth = (average: number, newest: number): number => average + NEWEST_WEIGHT * (newest - average);

type Clocks = { getCpuTimeMs(): number; getTimeMs(): number };

const systemClocks: Clocks = {
  // Measures only this thread. Password hashes are computed on other threads, so they don't delay deltas.
  getCpuTimeMs() {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1000;
  },
  getTimeMs: () => performance.now(),
};
