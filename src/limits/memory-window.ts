import { RateLimiterCompatibleAbstract, RateLimiterRes } from "rate-limiter-flexible";
import { BoundedCache } from "../cache/bounded-cache.ts";

/** How many points a key has used in a window, and when the window ends (as `Date.now()`). */
export type Use = { points: number; endsAtMs: number };

/** The maximum number of keys per window. Above it, the least recently used are evicted, so that clients can't exhaust memory. */
export const KEYS_MAX = 100_000;

type Options = { points: number; durationS: number; keysMax?: number };

/**
 * Counts in memory, in windows that begin with a key's first use. Unlike the library's own version, which has a timer per key
 * without a limit (docs/decisions/0044), it is bounded and synchronous. It implements the library's limiter, so that it can
 * replace Redis (`insuranceLimiter`).
 */
export class MemoryWindow extends RateLimiterCompatibleAbstract {
  override readonly keyPrefix = "";
  // The library sets both fields on its fallback. They aren't used here.
  override blockDuration = 0;
  override execEvenly = false;
  readonly points: number;
  readonly #durationMs: number;
  readonly #uses: BoundedCache<Use>;

  constructor({ points, durationS, keysMax = KEYS_MAX }: Options) {
    super();
    this.points = points;
    this.#durationMs = durationS * 1_000;
    this.#uses = new BoundedCache({ max: keysMax, ttlMs: this.#durationMs, now: Date.now });
  }

  /** The number of entries in memory, including ended windows that haven't been removed yet. */
  get size(): number {
    return this.#uses.size;
  }

  /** Adds points, even above the limit. @returns the current use, which is valid until the next call for this key. */
  hit(key: string, points = 1): Use {
    const nowMs = Date.now();
    const known = this.#uses.get(key);
    if (known && known.endsAtMs > nowMs) {
      known.points += points;
      return known;
    }
    return this.#begin(key, points, nowMs, this.#durationMs);
  }

  /** Returns the current use of a key, if any. */
  peek(key: string): Use | undefined {
    const use = this.#uses.get(key);
    return use && use.endsAtMs > Date.now() ? use : undefined;
  }

  #begin(key: string, points: number, nowMs: number, durationMs: number): Use {
    const use = { points, endsAtMs: nowMs + durationMs };
    this.#uses.set(key, use);
    return use;
  }

  #describe({ points, endsAtMs }: Use): RateLimiterRes {
    const isFirst = points <= 1;
    return new RateLimiterRes(Math.max(0, this.points - points), Math.max(0, endsAtMs - Date.now()), points, isFirst);
  }

  override async consume(key: string | number, points = 1): Promise<RateLimiterRes> {
    const result = this.#describe(this.hit(String(key), points));
    // The library requires throwing a refusal, which is not an Error.
    if (result.consumedPoints > this.points) throw result;
    return result;
  }

  override async penalty(key: string | number, points = 1): Promise<RateLimiterRes> {
    return this.#describe(this.hit(String(key), points));
  }

  override reward(key: string | number, points = 1): Promise<RateLimiterRes> {
    return this.penalty(key, -points);
  }

  override async get(key: string | number): Promise<RateLimiterRes | null> {
    const use = this.peek(String(key));
    return use ? this.#describe(use) : null;
  }

  /** @param durationS at most the duration of the window. */
  override async set(key: string | number, points: number, durationS: number): Promise<RateLimiterRes> {
    return this.#describe(this.#begin(String(key), points, Date.now(), durationS * 1_000));
  }

  override block(key: string | number, durationS: number): Promise<RateLimiterRes> {
    return this.set(key, this.points + 1, durationS);
  }

  override async delete(key: string | number): Promise<boolean> {
    return this.#uses.delete(String(key));
  }
}
