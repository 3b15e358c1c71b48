import { RateLimiterCompatibleAbstract, RateLimiterRes } from "rate-limiter-flexible";
import { BoundedCache } from "../cache/bounded-cache.ts";

/** How much of a window a key has used, and when the window ends, in milliseconds of `Date.now()`. */
export type Use = { points: number; endsAtMs: number };

/** Keys remembered per window; above it the least recently used ones are evicted, so clients can't fill the memory. */
export const KEYS_MAX = 100_000;

type Options = { points: number; durationS: number; keysMax?: number };

/**
 * Counts in memory, in windows that begin with a key's first use. The library's own version keeps an unbounded timer per key
 * (docs/decisions/0044); this one is bounded and synchronous. It implements the library's limiter, so it can replace Redis
 * (`insuranceLimiter`).
 */
export class MemoryWindow extends RateLimiterCompatibleAbstract {
  override readonly keyPrefix = "";
  // The library sets both on its fallback; neither is used here.
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

  /** Entries in memory, including ended windows not removed yet. */
  get size(): number {
    return this.#uses.size;
  }

  /** Uses points, even above the limit. @returns the current use; valid until the next call for this key. */
  hit(key: string, points = 1): Use {
    const nowMs = Date.now();
    const known = this.#uses.get(key);
    if (known && known.endsAtMs > nowMs) {
      known.points += points;
      return known;
    }
    return this.#begin(key, points, nowMs, this.#durationMs);
  }

  /** The current use of a key, if any. */
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

  /** @param durationS at most that of the window. */
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
