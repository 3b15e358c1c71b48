import { Ring } from "./ring.ts";

/** The source and the owner of a job. */
export type JobKey = { source: string; owner: string };

/** A queued job. */
export interface WaitingJob {
  /** Removes the job from the queue. Returns false if it is no longer queued. */
  remove(): boolean;
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
 * A fair queue of jobs. Jobs are taken from the sources in rotation, so each source waits for at most one job of every other
 * source. Within a source, jobs are taken from its owners in rotation. One owner's jobs stay in order.
 *
 * A source may add a job only if it has fewer jobs than there are free slots. A single source can use half of the queue, and
 * two sources can use a third each. Therefore, a few sources can't fill the queue. The same applies to the owners within a source.
 *
 * Each operation takes constant time. Only sources and owners with jobs use memory.
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

  /**
   * Returns `source` if the source or its owner has no capacity for another job, or `queue` if the queue has none. Returns null
   * if the job can be added.
   */
  findFullPart({ source: sourceKey, owner: ownerKey }: JobKey): "source" | "queue" | null {
    const { jobsMax, jobsPerSourceMax } = this.#options;
    const source = this.#sources.get(sourceKey);
    const sourceSize = source?.size ?? 0;
    const ownerSize = source?.owners.get(ownerKey)?.jobs.size ?? 0;
    if (ownerSize >= jobsPerSourceMax - sourceSize) return "source";
    return sourceSize >= jobsMax - this.#size ? "queue" : null;
  }

  /** Adds a job. Call `findFullPart` first. */
  add(key: JobKey, job: T): WaitingJob {
    const source = this.#getSource(key.source);
    const owner = getOwner(source, key.owner);
    const id = Symbol();
    owner.jobs.add(id, job);
    source.size += 1;
    this.#size += 1;
    return {
      remove: () => {
        const wasQueued = owner.jobs.delete(id);
        if (wasQueued) this.#recordRemoval(source, owner);
        return wasQueued;
      },
    };
  }

  /** Removes and returns the next job, or undefined if the queue is empty. */
  shift(): T | undefined {
    const source = this.#sources.first;
    const owner = source?.owners.first;
    if (!source || !owner) return undefined;
    const job = owner.jobs.shift();
    this.#sources.rotate();
    source.owners.rotate();
    this.#recordRemoval(source, owner);
    return job;
  }

  #getSource(key: string): Source<T> {
    const source = this.#sources.get(key) ?? { key, size: 0, owners: new Ring() };
    if (source.size === 0) this.#sources.add(key, source);
    return source;
  }

  /** Records the removal of a job. Removes its source and owner if they have no more jobs. */
  #recordRemoval(source: Source<T>, owner: Owner<T>): void {
    source.size -= 1;
    this.#size -= 1;
    if (owner.jobs.size === 0) source.owners.delete(owner.key);
    if (source.size === 0) this.#sources.delete(source.key);
  }
}

function getOwner<T>(source: Source<T>, key: string): Owner<T> {
  const existingOwner = source.owners.get(key);
  if (existingOwner) return existingOwner;
  const owner = { key, jobs: new Ring<symbol, T>() };
  source.owners.add(key, owner);
  return owner;
}
