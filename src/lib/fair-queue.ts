import { Ring } from "./ring.ts";

/** The source and the owner of a job. */
export type JobKey = { source: string; owner: string };

/** A queued job. */
export interface WaitingJob {
  /** Removes the job from the queue. @returns false if it had already been taken. */
  leave(): boolean;
}

type Options = {
  /** Maximum number of queued jobs. */
  jobsMax: number;
  /** Maximum number of queued jobs of one source. */
  jobsPerSourceMax: number;
};

type Owner<T> = { key: string; jobs: Ring<symbol, T> };
type Source<T> = { key: string; size: number; owners: Ring<string, Owner<T>> };

/**
 * A fair queue of jobs. The sources take turns, and so do the owners within each source; jobs of one owner keep their order.
 * So a source waits for at most one job of every other source, however many jobs they have.
 *
 * A source may queue only as many jobs as slots remain free: a single source can use half of the queue, two can use a third
 * each. So the queue is full only when it has as many sources as slots. The same applies to owners within a source.
 * Each operation takes constant time. Only sources and owners that have jobs use memory.
 */
export class FairQueue<T> {
  readonly #options: Options;
  readonly #sources = new Ring<string, Source<T>>();
  #size = 0;

  constructor(options: Options) {
    this.#options = options;
  }

  get size(): number {
    return this.#size;
  }

  /** Returns what has no capacity for another job: the source (or the owner within it), or the queue. Null if the job fits. */
  findRefusal({ source: sourceKey, owner: ownerKey }: JobKey): "source" | "queue" | null {
    const { jobsMax, jobsPerSourceMax } = this.#options;
    const source = this.#sources.get(sourceKey);
    const ofSource = source?.size ?? 0;
    const ofOwner = source?.owners.get(ownerKey)?.jobs.size ?? 0;
    if (ofOwner >= jobsPerSourceMax - ofSource) return "source";
    return ofSource >= jobsMax - this.#size ? "queue" : null;
  }

  /** Adds a job; call `findRefusal` first. */
  add(key: JobKey, job: T): WaitingJob {
    const source = this.#getSource(key.source);
    const owner = getOwner(source, key.owner);
    const id = Symbol();
    owner.jobs.add(id, job);
    source.size += 1;
    this.#size += 1;
    return {
      leave: () => {
        const isWaiting = owner.jobs.delete(id);
        if (isWaiting) this.#forget(source, owner);
        return isWaiting;
      },
    };
  }

  /** Takes the next job; undefined if the queue is empty. */
  take(): T | undefined {
    const source = this.#sources.first;
    const owner = source?.owners.first;
    if (!source || !owner) return undefined;
    const job = owner.jobs.shift();
    this.#sources.turn();
    source.owners.turn();
    this.#forget(source, owner);
    return job;
  }

  #getSource(key: string): Source<T> {
    const source = this.#sources.get(key) ?? { key, size: 0, owners: new Ring() };
    if (source.size === 0) this.#sources.add(key, source);
    return source;
  }

  /** Removes the source and the owner if they have no jobs. */
  #forget(source: Source<T>, owner: Owner<T>): void {
    source.size -= 1;
    this.#size -= 1;
    if (owner.jobs.size === 0) source.owners.delete(owner.key);
    if (source.size === 0) this.#sources.delete(source.key);
  }
}

function getOwner<T>(source: Source<T>, key: string): Owner<T> {
  const found = source.owners.get(key);
  if (found) return found;
  const owner = { key, jobs: new Ring<symbol, T>() };
  source.owners.add(key, owner);
  return owner;
}
