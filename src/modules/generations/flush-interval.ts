/** Deltas that follow each other faster than this go together: a very fast model costs no push for each token. */
export const FLUSH_MS_MIN = 4;
/** A busy instance pushes less often, up to this: 15 times a second still reads as a flow. */
export const FLUSH_MS_MAX = 66;

/** How often the load is measured while answers are written. */
const MEASURE_EVERY_MS = 200;
/** Above one of these the interval doubles, below both of the others it halves; in between it stays as it is. */
const BUSY = { share: 0.7, lagMs: 15 };
const CALM = { share: 0.5, lagMs: 8 };
/** What the newest measurement counts: one pause of the garbage collector is no load. */
const NEWEST_WEIGHT = 0.3;

/** The load of this thread: the share of the time that it computes, and how late its timers fire. */
export type Load = { share: number; lagMs: number };

/** The interval that follows `ms` under such a load, in milliseconds. */
export function nextFlushMs(ms: number, { share, lagMs }: Load): number {
  if (share > BUSY.share || lagMs > BUSY.lagMs) return Math.min(FLUSH_MS_MAX, ms * 2);
  if (share < CALM.share && lagMs < CALM.lagMs) return Math.max(FLUSH_MS_MIN, ms / 2);
  return ms;
}

/**
 * How long deltas wait for each other. It grows with the load of the instance, not with the number of answers: hundreds of
 * slow answers cost less than a few fast ones with many readers. The load is measured only while somebody asks.
 * @param clocks CPU time that this thread has used, and the time, both in milliseconds.
 * @returns the interval in milliseconds.
 */
export function createFlushInterval({ readCpuMs, readMs }: Clocks = ownClocks): () => number {
  let ms = FLUSH_MS_MIN;
  let load: Load = { share: 0, lagMs: 0 };
  let isAsked = false;
  let isMeasuring = false;

  function measure(): void {
    isMeasuring = true;
    isAsked = false;
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
      if (isAsked || ms > FLUSH_MS_MIN) measure();
    }, MEASURE_EVERY_MS).unref();
  }

  return () => {
    isAsked = true;
    if (!isMeasuring) measure();
    return ms;
  };
}

const mix = (before: number, newest: number): number => before + NEWEST_WEIGHT * (newest - before);

type Clocks = { readCpuMs(): number; readMs(): number };

const ownClocks: Clocks = {
  /** Of this thread alone: hashes of passwords are computed on others, and delay no delta. */
  readCpuMs() {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1000;
  },
  readMs: () => performance.now(),
};
