import { type Database, getReservedPool } from "../db/client.ts";
import { retryCollisions } from "../db/retry-collisions.ts";
import type { Log } from "../lib/log.ts";
import type { QueuedJob } from "./queue.ts";
import * as queries from "./queue.ts";

export type Job = (signal: AbortSignal) => Promise<void>;

/** The lease of a job. If it isn't renewed, another instance may claim the job after this time. */
const LEASE_MS = 15_000;
const RENEWAL_MS = 3_000;
/** How often a queue is polled. The instance that enqueues a job can poll sooner (`nudge`). */
const POLL_MS = 1_000;
const RETRY_MS_MAX = 5 * 60_000;

/** Returns the delay after a failed attempt: 1 s, 2 s, 4 s, … up to 5 minutes. */
const findRetryMs = (attempts: number): number => Math.min(RETRY_MS_MAX, 1_000 * 2 ** (attempts - 1));

const nameQueue = (name: string): string => `queue ${name}`;

type QueueOptions = {
  /** The maximum number of jobs of this queue that one instance runs concurrently. */
  concurrency: number;
};
type Queue = QueueOptions & {
  name: string;
  work: QueueWork;
  running: Set<string>;
  /** Whether another poll was requested during the current one. */
  isNudged: boolean;
};

/**
 * Does the work of one job. It may run more than once, so it must be idempotent.
 * @throws if the work isn't done, including when `signal` stops it; it is then retried.
 */
export type QueueWork = (key: string, signal: AbortSignal) => Promise<void>;

type Dependencies = { database: Database; log: Log; instanceId: string };

/**
 * Creates the runner of an instance's background work: queues, and recurring jobs that run on every instance or on one at a
 * time. Nothing runs before `start`. Runs of a job never overlap, because the interval is counted from the end of a run. A
 * failed run is logged, and the next one happens on schedule.
 */
export function createJobs({ database, log, instanceId }: Dependencies) {
  /** Leases use separate connections, so that they don't expire because of others' slow reads. */
  const leases = () => getReservedPool(database);
  const stopping = new AbortController();
  const starters = new Map<string, () => void>();
  const timers = new Map<string, Timer>();
  const running = new Map<string, Promise<void>>();
  const failing = new Set<string>();
  const queues = new Map<string, Queue>();
  /** The jobs held by this instance, with a controller that aborts the work if the lease is lost. */
  const held = new Map<string, { job: QueuedJob; leaseLost: AbortController }>();
  let hasStarted = false;

  async function runOnce(name: string, job: Job): Promise<void> {
    try {
      await job(stopping.signal);
      failing.delete(name);
    } catch (error) {
      if (stopping.signal.aborted) return;
      // If the database is unavailable, every run fails. Only the first failure is logged, until a run succeeds again.
      log[failing.has(name) ? "debug" : "error"]({ job: name, err: error }, "job failed");
      failing.add(name);
    }
  }

  function schedule(name: string, intervalMs: number, job: Job, delayMs = intervalMs): void {
    if (stopping.signal.aborted) return;
    clearTimeout(timers.get(name));
    const run = () => {
      timers.delete(name);
      const done = runOnce(name, job).finally(() => {
        running.delete(name);
        schedule(name, intervalMs, job);
      });
      running.set(name, done);
    };
    timers.set(name, setTimeout(run, delayMs));
  }

  function add(name: string, intervalMs: number, job: Job): void {
    if (starters.has(name)) throw new Error(`A job named ${name} already exists.`);
    const begin = () => schedule(name, intervalMs, job);
    starters.set(name, begin);
    if (hasStarted) begin();
  }

  /**
   * Runs `work` while renewing the lease. The signal is aborted when this instance stops or loses the lease. Never throws.
   * @returns the job as last claimed, and the error of `work`, if any.
   */
  async function runWithLease(job: QueuedJob, work: Job): Promise<{ job: QueuedJob; error?: unknown }> {
    const name = queries.nameOf(job);
    const claim = { job, leaseLost: new AbortController() };
    held.set(name, claim);
    try {
      await work(AbortSignal.any([stopping.signal, claim.leaseLost.signal]));
      return { job: claim.job };
    } catch (error) {
      return { job: claim.job, error };
    } finally {
      held.delete(name);
    }
  }

  /** Continues running work under a new claim, if the lease expired but this instance claimed the job again. */
  function adopt(job: QueuedJob): boolean {
    const holding = held.get(queries.nameOf(job));
    if (holding) holding.job = job;
    return holding !== undefined;
  }

  async function renewLeases(): Promise<void> {
    const jobs = [...held.values()].map(({ job }) => job);
    if (jobs.length === 0) return;
    await queries.renewJobLeases(leases(), instanceId, jobs, LEASE_MS);
    for (const job of await queries.findLostLeases(leases(), instanceId, jobs)) {
      const holding = held.get(queries.nameOf(job));
      if (holding?.job === job) holding.leaseLost.abort();
    }
  }

  async function runOnOne(name: string, intervalMs: number, work: Job, isDue: () => Promise<boolean>): Promise<void> {
    if (!(await isDue())) return;
    const startedAtMs = performance.now();
    // Behind a pooler, single statements use the role's isolation, so claiming may collide with another instance's.
    const claimed = await retryCollisions(() => queries.claimInterval(database, name, instanceId, LEASE_MS));
    if (!claimed) return;
    const { job, error } = await runWithLease(claimed, work);
    // Slightly less than the interval, so that the job is due at the next poll although clocks and timers are inexact.
    const nextMs = Math.max(0, intervalMs * 0.9 - (performance.now() - startedAtMs));
    await queries.postpone(leases(), instanceId, job, nextMs, error === undefined ? null : String(error));
    if (error !== undefined) throw error;
  }

  async function poll(queue: Queue): Promise<void> {
    do {
      queue.isNudged = false;
      await claimJobs(queue);
    } while (queue.isNudged && !stopping.signal.aborted);
  }

  async function claimJobs(queue: Queue): Promise<void> {
    const rows = queue.concurrency - queue.running.size;
    if (rows <= 0) return;
    const claim = () => queries.claimDue(database, queue.name, instanceId, { leaseMs: LEASE_MS, rows });
    for (const job of await retryCollisions(claim)) {
      if (adopt(job)) continue;
      const name = queries.nameOf(job);
      queue.running.add(job.key);
      const done = runQueued(queue, job).finally(() => {
        queue.running.delete(job.key);
        running.delete(name);
        // Polls again, because there may be more jobs for the free slot.
        nudge(queue.name);
      });
      running.set(name, done);
    }
  }

  /** Runs a queued job. Never throws: if the outcome can't be stored, the job is claimed again once the lease has expired. */
  async function runQueued({ work }: Queue, claimed: QueuedJob): Promise<void> {
    const { job, error } = await runWithLease(claimed, (signal) => work(claimed.key, signal));
    const about = { queue: job.queue, key: job.key, attempts: job.attempts };
    try {
      if (error === undefined) await queries.complete(leases(), instanceId, job);
      else if (stopping.signal.aborted) await queries.release(leases(), instanceId, [job]);
      else {
        log.error({ ...about, err: error }, "a queued job failed; it will be retried");
        await queries.postpone(leases(), instanceId, job, findRetryMs(job.attempts), String(error));
      }
    } catch (err) {
      log.warn({ ...about, err }, "the outcome of a queued job could not be stored");
    }
  }

  function nudge(name: string): void {
    const queue = queues.get(name);
    if (!queue) throw new Error(`The queue ${name} doesn't exist.`);
    queue.isNudged = true;
    const job = nameQueue(name);
    if (timers.has(job)) schedule(job, POLL_MS, () => poll(queue), 0);
  }

  return {
    /** Runs `job` every `intervalMs` on each instance, the first time after one interval. */
    everyOnEach: add,

    /**
     * Runs `job` every `intervalMs` on one instance at a time, the one that claims it first.
     * @param isDue a check to do before claiming the job, if it is cheaper than that, which takes two writes per interval.
     */
    everyOnOne(name: string, intervalMs: number, job: Job, isDue: () => Promise<boolean> = async () => true): void {
      add(name, intervalMs, () => runOnOne(name, intervalMs, job, isDue));
    },

    /** Registers the work for jobs that `enqueue` (queue.ts) adds to the queue `name`. */
    queue(name: string, work: QueueWork, options: QueueOptions): void {
      const queue: Queue = { ...options, name, work, running: new Set(), isNudged: false };
      queues.set(name, queue);
      add(nameQueue(name), POLL_MS, () => poll(queue));
    },

    /** Polls a queue immediately. Call this after enqueuing a job. */
    nudge,

    start(): void {
      hasStarted = true;
      for (const begin of starters.values()) begin();
      schedule("leases of jobs", RENEWAL_MS, renewLeases);
    },

    /** Starts no more jobs, and waits for running ones, at most until `deadlineMs` (milliseconds since 1970). */
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

export type Jobs = ReturnType<typeof createJobs>;
