import { type Database, getReservedPool } from "../db/client.ts";
import { retryCollisions } from "../db/retry-collisions.ts";
import type { Log } from "../lib/log.ts";
import type { QueuedJob } from "./queue.ts";
import * as queries from "./queue.ts";

export type Job = (signal: AbortSignal) => Promise<void>;

/** Duration of a job's lease. If it isn't renewed, another instance may claim the job. */
const LEASE_MS = 15_000;
const RENEWAL_MS = 3_000;
/** Interval between polls of a queue. `nudge` polls it immediately. */
const POLL_MS = 1_000;
const RETRY_MS_MAX = 5 * 60_000;

/** Returns the delay after a failed attempt: 1 s, 2 s, 4 s, … up to 5 minutes. */
const calculateRetryMs = (attempts: number): number => Math.min(RETRY_MS_MAX, 1_000 * 2 ** (attempts - 1));

const formatQueueJob = (name: string): string => `queue ${name}`;

type QueueOptions = {
  /** Maximum number of this queue's jobs that one instance runs concurrently. */
  concurrency: number;
};
type Queue = QueueOptions & {
  name: string;
  work: QueueWork;
  runningKeys: Set<string>;
  /** Whether another poll was requested during the current one. */
  isNudged: boolean;
};

/**
 * Runs one job. It may be called more than once for the same job, so it must be idempotent.
 * @throws if the job isn't complete, including after `signal` aborted it. The job is then retried.
 */
export type QueueWork = (key: string, signal: AbortSignal) => Promise<void>;

type Dependencies = { database: Database; log: Log; instanceId: string };

/**
 * Creates the runner of an instance's background jobs: queues, and recurring jobs that run on each instance or on one instance
 * at a time. Nothing runs before `start`. The interval of a recurring job starts when a run ends, so runs never overlap. Errors
 * are logged.
 */
export function createJobRunner({ database, log, instanceId }: Dependencies) {
  /** Leases use reserved connections, so that slow queries don't let them expire. */
  const getLeasePool = () => getReservedPool(database);
  const stopController = new AbortController();
  const starters = new Map<string, () => void>();
  const timers = new Map<string, Timer>();
  const runningJobs = new Map<string, Promise<void>>();
  const failingJobs = new Set<string>();
  const queues = new Map<string, Queue>();
  /** The jobs leased by this instance, with a controller that aborts the work if the lease is lost. */
  const heldJobs = new Map<string, { job: QueuedJob; leaseController: AbortController }>();
  let hasStarted = false;

  async function runOnce(name: string, job: Job): Promise<void> {
    try {
      await job(stopController.signal);
      failingJobs.delete(name);
    } catch (error) {
      if (stopController.signal.aborted) return;
      // Only the first failure is logged until a run succeeds again.
      log[failingJobs.has(name) ? "debug" : "error"]({ job: name, err: error }, "job failed");
      failingJobs.add(name);
    }
  }

  function schedule(name: string, intervalMs: number, job: Job, delayMs = intervalMs): void {
    if (stopController.signal.aborted) return;
    clearTimeout(timers.get(name));
    const run = () => {
      timers.delete(name);
      const finished = runOnce(name, job).finally(() => {
        runningJobs.delete(name);
        schedule(name, intervalMs, job);
      });
      runningJobs.set(name, finished);
    };
    timers.set(name, setTimeout(run, delayMs));
  }

  function addJob(name: string, intervalMs: number, job: Job): void {
    if (starters.has(name)) throw new Error(`A job named ${name} already exists.`);
    const startJob = () => schedule(name, intervalMs, job);
    starters.set(name, startJob);
    if (hasStarted) startJob();
  }

  /**
   * Runs `work` while renewing the lease. The signal is aborted when this instance stops or loses the lease. Never throws.
   * @returns the job as it was last claimed, and the error of `work`, if any.
   */
  async function runWithLease(job: QueuedJob, work: Job): Promise<{ job: QueuedJob; error?: unknown }> {
    const name = queries.formatJobName(job);
    const heldJob = { job, leaseController: new AbortController() };
    heldJobs.set(name, heldJob);
    try {
      await work(AbortSignal.any([stopController.signal, heldJob.leaseController.signal]));
      return { job: heldJob.job };
    } catch (error) {
      return { job: heldJob.job, error };
    } finally {
      heldJobs.delete(name);
    }
  }

  /** Assigns a new claim to running work, if its lease has expired and this instance claimed the job again. */
  function adoptClaim(job: QueuedJob): boolean {
    const heldJob = heldJobs.get(queries.formatJobName(job));
    if (heldJob) heldJob.job = job;
    return heldJob !== undefined;
  }

  async function renewLeases(): Promise<void> {
    const jobs = [...heldJobs.values()].map(({ job }) => job);
    if (jobs.length === 0) return;
    await queries.renewJobLeases(getLeasePool(), instanceId, jobs, LEASE_MS);
    for (const job of await queries.findLostLeases(getLeasePool(), instanceId, jobs)) {
      const heldJob = heldJobs.get(queries.formatJobName(job));
      if (heldJob?.job === job) heldJob.leaseController.abort();
    }
  }

  async function runOnOneInstance(
    name: string,
    intervalMs: number,
    work: Job,
    isDue: () => Promise<boolean>,
  ): Promise<void> {
    if (!(await isDue())) return;
    const startedAtMs = performance.now();
    // Behind a pooler, the role's isolation level applies, so claims of several instances may conflict.
    const claimedJob = await retryCollisions(() => queries.claimInterval(database, name, instanceId, LEASE_MS));
    if (!claimedJob) return;
    const { job, error } = await runWithLease(claimedJob, work);
    // The delay is shorter than the interval, so that the job is due at the next poll even if clocks and timers are inexact.
    const nextMs = Math.max(0, intervalMs * 0.9 - (performance.now() - startedAtMs));
    await queries.postponeJob(getLeasePool(), instanceId, job, nextMs, error === undefined ? null : String(error));
    if (error !== undefined) throw error;
  }

  async function poll(queue: Queue): Promise<void> {
    do {
      queue.isNudged = false;
      await claimJobs(queue);
    } while (queue.isNudged && !stopController.signal.aborted);
  }

  async function claimJobs(queue: Queue): Promise<void> {
    const rows = queue.concurrency - queue.runningKeys.size;
    if (rows <= 0) return;
    const claim = () => queries.claimDueJobs(database, queue.name, instanceId, { leaseMs: LEASE_MS, rows });
    for (const job of await retryCollisions(claim)) {
      if (adoptClaim(job)) continue;
      const name = queries.formatJobName(job);
      queue.runningKeys.add(job.key);
      const finished = runQueuedJob(queue, job).finally(() => {
        queue.runningKeys.delete(job.key);
        runningJobs.delete(name);
        // Polls again, because there may be more jobs for the free slot.
        nudge(queue.name);
      });
      runningJobs.set(name, finished);
    }
  }

  /** Runs a queued job. Never throws. If the outcome can't be stored, the job is claimed again after the lease has expired. */
  async function runQueuedJob({ work }: Queue, claimedJob: QueuedJob): Promise<void> {
    const { job, error } = await runWithLease(claimedJob, (signal) => work(claimedJob.key, signal));
    const logFields = { queue: job.queue, key: job.key, attempts: job.attempts };
    try {
      if (error === undefined) await queries.completeJob(getLeasePool(), instanceId, job);
      else if (stopController.signal.aborted) await queries.releaseJobs(getLeasePool(), instanceId, [job]);
      else {
        log.error({ ...logFields, err: error }, "a queued job failed; it will be retried");
        await queries.postponeJob(getLeasePool(), instanceId, job, calculateRetryMs(job.attempts), String(error));
      }
    } catch (err) {
      log.warn({ ...logFields, err }, "the outcome of a queued job could not be stored");
    }
  }

  function nudge(name: string): void {
    const queue = queues.get(name);
    if (!queue) throw new Error(`The queue ${name} doesn't exist.`);
    queue.isNudged = true;
    const job = formatQueueJob(name);
    if (timers.has(job)) schedule(job, POLL_MS, () => poll(queue), 0);
  }

  return {
    /** Runs `job` on each instance at this interval. The first run is after one interval. */
    scheduleOnEachInstance: addJob,

    /**
     * Runs `job` at this interval on the instance that claims it first.
     * @param isDue returns whether to claim the job. Useful if it is cheaper than claiming, which needs two writes.
     */
    scheduleOnOneInstance(
      name: string,
      intervalMs: number,
      job: Job,
      isDue: () => Promise<boolean> = async () => true,
    ): void {
      addJob(name, intervalMs, () => runOnOneInstance(name, intervalMs, job, isDue));
    },

    /** Registers the function that runs the jobs of a queue. */
    registerQueue(name: string, work: QueueWork, options: QueueOptions): void {
      const queue: Queue = { ...options, name, work, runningKeys: new Set(), isNudged: false };
      queues.set(name, queue);
      addJob(formatQueueJob(name), POLL_MS, () => poll(queue));
    },

    /** Polls a queue immediately, for callers that have enqueued a job. */
    nudge,

    start(): void {
      hasStarted = true;
      for (const startJob of starters.values()) startJob();
      schedule("leases of jobs", RENEWAL_MS, renewLeases);
    },

    /** Starts no further jobs, and waits for running ones until `deadlineMs` (in milliseconds since 1970). */
    async stop(deadlineMs: number): Promise<void> {
      stopController.abort();
      for (const timer of timers.values()) clearTimeout(timer);
      if (runningJobs.size === 0) return;
      const names = [...runningJobs.keys()];
      const allFinished = Promise.all(runningJobs.values()).then(() => true);
      const isDone = await Promise.race([
        allFinished,
        Bun.sleep(Math.max(0, deadlineMs - Date.now())).then(() => false),
      ]);
      if (!isDone) log.warn({ jobs: names }, "jobs did not finish in time");
    },
  };
}

export type Jobs = ReturnType<typeof createJobRunner>;
