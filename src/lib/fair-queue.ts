import { Ring } from "./ring.ts";

/** Whose job it is. */
export type JobKey = { source: string; owner: string };

/** A job that may still wait. */
export interface WaitingJob {
  /** Takes the job out of the queue. @returns false when its turn had come before. */
  leave(): boolean;
}

type Options = {
  /** Jobs that may wait. */
  jobsMax: number;
  /** How many of them may be of one source. */
  jobsPerSourceMax: number;
};

type Owner<T> = { key: string; jobs: Ring<symbol, T> };
type Source<T> = { key: string; size: number; owners: Ring<string, Owner<T>> };

/**
 * Jobs that wait for their turn. The sources take turns, and so do the owners within each source; jobs of one owner keep
 * their order. A source therefore waits for one job of each other source, however many jobs they have.
 *
 * A source may have as many jobs as it leaves free places in the queue: one source alone fills half of it, two a third
 * each. So the queue is full only when as many sources wait as it has places. The same holds for owners within a source.
 * Each step takes the same time, however much waits. Only sources and owners that have jobs take memory.
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

  /** Who has too many jobs for one more: the source (or the owner within it), or all together. Null: there is room. */
  findRefusal({ source: sourceKey, owner: ownerKey }: JobKey): "source" | "queue" | null {
    const { jobsMax, jobsPerSourceMax } = this.#options;
    const source = this.#sources.get(sourceKey);
    const ofSource = source?.size ?? 0;
    const ofOwner = source?.owners.get(ownerKey)?.jobs.size ?? 0;
    if (ofOwner >= jobsPerSourceMax - ofSource) return "source";
    return ofSource >= jobsMax - this.#size ? "queue" : null;
  }

  /** Adds a job; `findRefusal` says whether there is room for it. */
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

  /** Takes the job whose turn it is out of the queue; undefined when none waits. */
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

  /** After one of its jobs has gone. */
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
