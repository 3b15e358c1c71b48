import { type Database, getReservedPool } from "../db/client.ts";
import { retryCollisions } from "../db/retry-collisions.ts";
import type { Log } from "../lib/log.ts";
import type { QueuedJob } from "./queue.ts";
import * as queries from "./queue.ts";

export type Job = (signal: AbortSignal) => Promise<void>;

/** Lease of a job; without renewal, another instance takes it after this time. */
const LEASE_MS = 15_000;
const RENEWAL_MS = 3_000;
/** How often a queue is polled; the instance that enqueues can have it polled sooner. */
const POLL_MS = 1_000;
const RETRY_MS_MAX = 5 * 60_000;

/** After a failed attempt: 1 s, 2 s, 4 s, … up to 5 minutes. */
const findRetryMs = (attempts: number): number => Math.min(RETRY_MS_MAX, 1_000 * 2 ** (attempts - 1));

const nameQueue = (name: string): string => `queue ${name}`;

type QueueOptions = {
  /** Jobs of the queue that one instance runs concurrently. */
  concurrency: number;
};
type Queue = QueueOptions & {
  name: string;
  work: QueueWork;
  running: Set<string>;
  /** Whether to poll again, requested while polling. */
  isNudged: boolean;
};

/**
 * Runs one job of a queue: at least once, so it must be idempotent.
 * @throws when it isn't done, including when `signal` stops it; it is then retried.
 */
export type QueueWork = (key: string, signal: AbortSignal) => Promise<void>;

type Dependencies = { database: Database; log: Log; instanceId: string };

/**
 * Background work of an instance: recurring jobs, each on every instance or on one at a time, and queues. Nothing runs
 * before `start`. Runs of a job never overlap: the interval counts from the end of a run. A failed run is logged, and the
 * next one happens on schedule.
 */
export function createJobs({ database, log, instanceId }: Dependencies) {
  /** Separate connections: slow reads of others must not let leases expire. */
  const leases = () => getReservedPool(database);
  const stopping = new AbortController();
  const starters = new Map<string, () => void>();
  const timers = new Map<string, Timer>();
  const running = new Map<string, Promise<void>>();
  const failing = new Set<string>();
  const queues = new Map<string, Queue>();
  /** Jobs held by this instance, with a way to abort each when its lease is lost. */
  const held = new Map<string, { job: QueuedJob; leaseLost: AbortController }>();
  let hasStarted = false;

  async function runOnce(name: string, job: Job): Promise<void> {
    try {
      await job(stopping.signal);
      failing.delete(name);
    } catch (error) {
      if (stopping.signal.aborted) return;
      // An unavailable database fails every run: logged once, until a run succeeds again.
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
   * Runs `work` while the lease is kept; its signal is aborted when this instance stops or loses the lease. Never throws.
   * @returns the final claim, and the error of the work, if any.
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

  /** The lease had expired, but no other instance was faster: running work continues under the new claim. */
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
    // Behind a pooler, single statements use the role's isolation, and two instances claim at the same time.
    const claimed = await retryCollisions(() => queries.claimInterval(database, name, instanceId, LEASE_MS));
    if (!claimed) return;
    const { job, error } = await runWithLease(claimed, work);
    // A poll one interval later must find it due, although clocks and timers are inexact.
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
        // There may be more jobs for the free slot.
        nudge(queue.name);
      });
      running.set(name, done);
    }
  }

  /** Never throws: if the outcome can't be stored, the job is found again when the lease has expired. */
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
     * Runs `job` on one instance at a time, whichever is first.
     * @param isDue checked first, if that is cheaper than the claim: two writes per interval.
     */
    everyOnOne(name: string, intervalMs: number, job: Job, isDue: () => Promise<boolean> = async () => true): void {
      add(name, intervalMs, () => runOnOne(name, intervalMs, job, isDue));
    },

    /** Registers the function that runs the jobs that `enqueue` (queue.ts) adds to the queue of this name. */
    queue(name: string, work: QueueWork, options: QueueOptions): void {
      const queue: Queue = { ...options, name, work, running: new Set(), isNudged: false };
      queues.set(name, queue);
      add(nameQueue(name), POLL_MS, () => poll(queue));
    },

    /** Polls a queue now, after a job was enqueued. */
    nudge,

    start(): void {
      hasStarted = true;
      for (const begin of starters.values()) begin();
      schedule("leases of jobs", RENEWAL_MS, renewLeases);
    },

    /** Starts nothing more, and waits for running jobs until `deadlineMs` (milliseconds since 1970) at the latest. */
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
