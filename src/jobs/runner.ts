import type { Log } from "../lib/log.ts";

export type Job = (signal: AbortSignal) => Promise<void>;

/**
 * Runs jobs of this instance at intervals. One run of a job never overlaps the next: the interval counts from the end of
 * a run. A failed run is logged, and the next one comes as planned.
 */
export function createJobRunner({ log }: { log: Log }) {
  const stopping = new AbortController();
  const timers = new Map<string, Timer>();
  const running = new Map<string, Promise<void>>();
  const failing = new Set<string>();

  async function runOnce(name: string, job: Job): Promise<void> {
    try {
      await job(stopping.signal);
      failing.delete(name);
    } catch (error) {
      if (stopping.signal.aborted) return;
      // A database that is away fails every run: said once, until a run succeeds again.
      log[failing.has(name) ? "debug" : "error"]({ job: name, err: error }, "job failed");
      failing.add(name);
    }
  }

  function schedule(name: string, intervalMs: number, job: Job): void {
    if (stopping.signal.aborted) return;
    const timer = setTimeout(() => {
      const run = runOnce(name, job).finally(() => {
        running.delete(name);
        schedule(name, intervalMs, job);
      });
      running.set(name, run);
    }, intervalMs);
    timers.set(name, timer);
  }

  return {
    /** Runs `job` every `intervalMs`, the first time after one interval. Its signal is aborted by `stop`. */
    every(name: string, intervalMs: number, job: Job): void {
      if (timers.has(name)) throw new Error(`There already is a job ${name}.`);
      schedule(name, intervalMs, job);
    },

    /** Starts nothing more, and waits for what runs, at the latest until `deadlineMs` (milliseconds since 1970). */
    async stop(deadlineMs: number): Promise<void> {
      stopping.abort();
      for (const timer of timers.values()) clearTimeout(timer);
      if (running.size === 0) return;
      const names = [...running.keys()];
      const ended = Promise.all(running.values()).then(() => true);
      const isDone = await Promise.race([ended, Bun.sleep(Math.max(0, deadlineMs - Date.now())).then(() => false)]);
      if (!isDone) log.warn({ jobs: names }, "jobs did not end in time");
    },
  };
}

export type JobRunner = ReturnType<typeof createJobRunner>;
