import { RateLimiterCompatibleAbstract, RateLimiterRes } from "rate-limiter-flexible";
import { BoundedCache } from "../cache/bounded-cache.ts";

/** The points that a key has used in a window, and the end of the window (in the time of `Date.now()`). */
export type WindowUsage = { points: number; endsAtMs: number };

/** Maximum number of keys per window. The least recently used ones are evicted, so that clients can't exhaust the memory. */
export const KEYS_MAX = 100_000;

type Options = { points: number; durationS: number; keysMax?: number };

/**
 * Counts uses in memory, in windows that begin with a key's first use. Unlike the library's own version, it is synchronous and
 * limits the memory (docs/decisions/0044). It implements the library's limiter, so that it can replace Redis
 * (`insuranceLimiter`).
 */
export class MemoryWindow extends RateLimiterCompatibleAbstract {
  override readonly keyPrefix = "";
  // The library sets both fields on its fallback. They aren't used here.
  override blockDuration = 0;
  override execEvenly = false;
  readonly points: number;
  readonly #durationMs: number;
  readonly #usages: BoundedCache<WindowUsage>;

  constructor({ points, durationS, keysMax = KEYS_MAX }: Options) {
    super();
    this.points = points;
    this.#durationMs = durationS * 1_000;
    this.#usages = new BoundedCache({ maxSize: keysMax, ttlMs: this.#durationMs, now: Date.now });
  }

  /** The number of entries in memory, including expired ones that haven't been removed yet. */
  get size(): number {
    return this.#usages.size;
  }

  /** Adds points, even above the limit. Returns the current usage, which is valid until the next call for this key. */
  hit(key: string, points = 1): WindowUsage {
    const nowMs = Date.now();
    const existingUsage = this.#usages.get(key);
    if (existingUsage && existingUsage.endsAtMs > nowMs) {
      existingUsage.points += points;
      return existingUsage;
    }
    return this.#startWindow(key, points, nowMs, this.#durationMs);
  }

  /** Returns the current usage of a key, if any. */
  peek(key: string): WindowUsage | undefined {
    const usage = this.#usages.get(key);
    return usage && usage.endsAtMs > Date.now() ? usage : undefined;
  }

  #startWindow(key: string, points: number, nowMs: number, durationMs: number): WindowUsage {
    const usage = { points, endsAtMs: nowMs + durationMs };
    this.#usages.set(key, usage);
    return usage;
  }

  #toResult({ points, endsAtMs }: WindowUsage): RateLimiterRes {
    const isFirst = points <= 1;
    return new RateLimiterRes(Math.max(0, this.points - points), Math.max(0, endsAtMs - Date.now()), points, isFirst);
  }

  override async consume(key: string | number, points = 1): Promise<RateLimiterRes> {
    const result = this.#toResult(this.hit(String(key), points));
    // The library requires that the result is thrown if the limit is exceeded.
    if (result.consumedPoints > this.points) throw result;
    return result;
  }

  override async penalty(key: string | number, points = 1): Promise<RateLimiterRes> {
    return this.#toResult(this.hit(String(key), points));
  }

  override reward(key: string | number, points = 1): Promise<RateLimiterRes> {
    return this.penalty(key, -points);
  }

  override async get(key: string | number): Promise<RateLimiterRes | null> {
    const usage = this.peek(String(key));
    return usage ? this.#toResult(usage) : null;
  }

  /** @param durationS must not exceed the duration of the window. */
  override async set(key: string | number, points: number, durationS: number): Promise<RateLimiterRes> {
    return this.#toResult(this.#startWindow(String(key), points, Date.now(), durationS * 1_000));
  }

  override block(key: string | number, durationS: number): Promise<RateLimiterRes> {
    return this.set(key, this.points + 1, durationS);
  }

  override async delete(key: string | number): Promise<boolean> {
    return this.#usages.delete(String(key));
  }
}
