/** Deltas within this interval are batched, so that a very fast model doesn't cost one push per token. */
export const FLUSH_MS_MIN = 4;
/** The longest interval, used under load: 15 pushes a second still read as a continuous flow. */
export const FLUSH_MS_MAX = 66;

/** How often the load is measured while answers are written. */
const MEASURE_EVERY_MS = 200;
/** Above either value the interval doubles; below half of both it halves; in between it stays. */
const BUSY = { share: 0.7, lagMs: 15 };
const CALM = { share: 0.5, lagMs: 8 };
/** Weight of the newest measurement, so that a single garbage collection doesn't count as load. */
const NEWEST_WEIGHT = 0.3;

/** The load of this thread: its CPU share, and how late its timers fire. */
export type Load = { share: number; lagMs: number };

/** The next interval after `ms` under this load, in milliseconds. */
export function nextFlushMs(ms: number, { share, lagMs }: Load): number {
  if (share > BUSY.share || lagMs > BUSY.lagMs) return Math.min(FLUSH_MS_MAX, ms * 2);
  if (share < CALM.share && lagMs < CALM.lagMs) return Math.max(FLUSH_MS_MIN, ms / 2);
  return ms;
}

/**
 * How long deltas are batched. Grows with the instance's load rather than the number of answers: hundreds of slow answers
 * cost less than a few fast ones with many readers. The load is measured only while the interval is being read.
 * @param clocks CPU time of this thread and wall-clock time, both in milliseconds.
 * @returns the interval in milliseconds.
 */
export function createFlushInterval({ readCpuMs, readMs }: Clocks = ownClocks): () => number {
  let ms = FLUSH_MS_MIN;
  let load: Load = { share: 0, lagMs: 0 };
  let isUsed = false;
  let isMeasuring = false;

  function measure(): void {
    isMeasuring = true;
    isUsed = false;
    const startedAtMs = readMs();
    const startedCpuMs = readCpuMs();
    setTimeout(() => {
      const elapsedMs = readMs() - startedAtMs;
      load = {
        share: mix(load.share, (readCpuMs() - startedCpuMs) / elapsedMs),
        lagMs: mix(load.lagMs, Math.max(0, elapsedMs - MEASURE_EVERY_MS)),
      };
      ms = nextFlushMs(ms, load);
      isMeasuring = false;
      if (isUsed || ms > FLUSH_MS_MIN) measure();
    }, MEASURE_EVERY_MS).unref();
  }

  return () => {
    isUsed = true;
    if (!isMeasuring) measure();
    return ms;
  };
}

const mix = (before: number, newest: number): number => before + NEWEST_WEIGHT * (newest - before);

type Clocks = { readCpuMs(): number; readMs(): number };

const ownClocks: Clocks = {
  /** This thread only: password hashes are computed on other threads and delay no delta. */
  readCpuMs() {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1000;
  },
  readMs: () => performance.now(),
};
