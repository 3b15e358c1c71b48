/**
 * A map for values that are of no use after a while, and that forgets in two generations: what was not asked for in the
 * last one is dropped as a whole. So nothing has to be looked for to be cleared away, no timer runs, and the size is
 * bounded, also when strangers choose the keys. (Deleting the oldest entry of a `Map` one by one takes 20 µs each here.)
 */
export class RecentMap<V> {
  readonly #keptMs: number;
  readonly #generationMax: number;
  #recent = new Map<string, V>();
  #older = new Map<string, V>();
  #endsAtMs = 0;

  /** @param options values are kept for `keptMs` at least, unless there are more than `entriesMax` of them. */
  constructor({ keptMs, entriesMax }: { keptMs: number; entriesMax: number }) {
    this.#keptMs = keptMs;
    this.#generationMax = Math.max(1, Math.floor(entriesMax / 2));
  }

  get size(): number {
    return this.#recent.size + this.#older.size;
  }

  get(key: string): V | undefined {
    return this.#recent.get(key) ?? this.#older.get(key);
  }

  /** @param nowMs the time is the caller's, who has asked for it anyway. */
  set(key: string, value: V, nowMs: number): void {
    if (nowMs >= this.#endsAtMs || this.#recent.size >= this.#generationMax) this.#begin(nowMs);
    this.#recent.set(key, value);
    this.#older.delete(key);
  }

  delete(key: string): boolean {
    const wasRecent = this.#recent.delete(key);
    return this.#older.delete(key) || wasRecent;
  }

  #begin(nowMs: number): void {
    // After a pause the recent ones are too old as well.
    this.#older = nowMs >= this.#endsAtMs + this.#keptMs ? new Map() : this.#recent;
    this.#recent = new Map();
    this.#endsAtMs = nowMs + this.#keptMs;
  }
}
