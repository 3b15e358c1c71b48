import { type RateLimiterLike, RateLimiterRedis, RateLimiterRes } from "rate-limiter-flexible";
import { BoundedCache } from "../cache/bounded-cache.ts";
import type { RedisLink } from "../redis/link.ts";
import { KEYS_MAX, MemoryWindow, type WindowUsage } from "./memory-window.ts";

/** Durations of the two windows of each rate limit: a short one for bursts and a longer one for sustained load. */
export const BURST_S = 10;
export const SUSTAINED_S = 60;

export type WindowName = "burst" | "sustained";
export type Rate = { burst: number; sustained: number };

/** Whether a request is allowed, and the values of the rate-limit headers (draft-ietf-httpapi-ratelimit-headers). */
export class LimitResult {
  /** @param policy the value of `RateLimit-Policy`, which describes the windows. */
  constructor(
    readonly policy: string,
    private readonly burst: WindowState,
    private readonly sustained: WindowState,
  ) {}

  get isAllowed(): boolean {
    return this.burst.remaining >= 0 && this.sustained.remaining >= 0;
  }

  /** The smaller remaining quota of the two windows. */
  get remaining(): number {
    return Math.max(0, Math.min(this.burst.remaining, this.sustained.remaining));
  }

  /** The names of the exhausted windows. */
  get violatedWindows(): WindowName[] {
    const names: WindowName[] = [];
    if (this.burst.remaining < 0) names.push("burst");
    if (this.sustained.remaining < 0) names.push("sustained");
    return names;
  }

  /** Milliseconds until a request will be allowed, or 0 if this one is. */
  get retryAfterMs(): number {
    if (this.isAllowed) return 0;
    const waitsMs = [this.burst, this.sustained].map(({ remaining, endsInMs }) => (remaining < 0 ? endsInMs : 0));
    return Math.max(1, ...waitsMs);
  }

  /** The value of `RateLimit`, which reports the remaining quota. Formatted only when it is needed. */
  get state(): string {
    const { burst, sustained } = this;
    return (
      `"burst";r=${Math.max(0, burst.remaining)};t=${Math.ceil(burst.endsInMs / 1_000)}, ` +
      `"sustained";r=${Math.max(0, sustained.remaining)};t=${Math.ceil(sustained.endsInMs / 1_000)}`
    );
  }
}

/** The remaining quota of a window, which is negative if the request is rejected, and the time until the window ends. */
type WindowState = { remaining: number; endsInMs: number };

export type Limiter = {
  /** Counts one use. Synchronous, unless it is counted in Redis. */
  consume(key: string): LimitResult | Promise<LimitResult>;
  /** Checks whether a use would be allowed, without counting it. */
  peek(key: string): LimitResult | Promise<LimitResult>;
};

type Options = { name: string; rate: Rate; redis: RedisLink | null; keysMax?: number };

/**
 * Creates a rate limit that is counted separately for each key. Uses rejected by the burst window don't count in the sustained
 * window, so that a short burst doesn't block a caller for the rest of the minute. With Redis, the first rejected use does count,
 * because both windows are counted at the same time.
 */
export function createLimiter({ name, rate, redis, keysMax = KEYS_MAX }: Options): Limiter {
  const windows = {
    burst: new MemoryWindow({ points: rate.burst, durationS: BURST_S, keysMax }),
    sustained: new MemoryWindow({ points: rate.sustained, durationS: SUSTAINED_S, keysMax }),
  };
  const policy = `"burst";q=${rate.burst};w=${BURST_S}, "sustained";q=${rate.sustained};w=${SUSTAINED_S}`;

  /** @param cost 1 if the use has not been counted, otherwise 0. */
  function createResult(burst: WindowUsage | undefined, sustained: WindowUsage | undefined, cost: 0 | 1): LimitResult {
    const nowMs = Date.now();
    const getState = (usage: WindowUsage | undefined, points: number, durationS: number): WindowState => ({
      remaining: points - (usage?.points ?? 0) - cost,
      endsInMs: usage ? Math.max(0, usage.endsAtMs - nowMs) : durationS * 1_000,
    });
    return new LimitResult(
      policy,
      getState(burst, rate.burst, BURST_S),
      getState(sustained, rate.sustained, SUSTAINED_S),
    );
  }

  function consumeLocally(key: string): LimitResult {
    const burst = windows.burst.hit(key);
    const isExceeded = burst.points > rate.burst;
    return createResult(burst, isExceeded ? windows.sustained.peek(key) : windows.sustained.hit(key), 0);
  }
  const peekLocally = (key: string) => createResult(windows.burst.peek(key), windows.sustained.peek(key), 1);
  if (redis === null) return { consume: consumeLocally, peek: peekLocally };

  const sharedWindows = createSharedWindows(name, rate, redis, windows);
  /** Keys that the burst window rejects. Until it ends, their uses are rejected without a request to Redis. */
  const rejectedKeys = new BoundedCache<{ burst: WindowUsage; sustained: WindowUsage }>({
    maxSize: keysMax,
    ttlMs: BURST_S * 1_000,
  });

  async function consumeShared(key: string): Promise<LimitResult> {
    const rejected = rejectedKeys.get(key);
    if (rejected && rejected.burst.endsAtMs > Date.now()) return createResult(rejected.burst, rejected.sustained, 0);
    const [burst, sustained] = await Promise.all([
      countUse(sharedWindows.burst, key),
      countUse(sharedWindows.sustained, key),
    ]);
    if (burst.points > rate.burst) rejectedKeys.set(key, { burst, sustained });
    return createResult(burst, sustained, 0);
  }

  return {
    consume: (key) => (redis.isAvailable() ? consumeShared(key) : consumeLocally(key)),
    async peek(key) {
      if (!redis.isAvailable()) return peekLocally(key);
      const [burst, sustained] = await Promise.all([sharedWindows.burst.get(key), sharedWindows.sustained.get(key)]);
      return createResult(toOptionalUsage(burst), toOptionalUsage(sustained), 1);
    },
  };
}

type Windows = { burst: MemoryWindow; sustained: MemoryWindow };

function createSharedWindows(name: string, rate: Rate, redis: RedisLink, windows: Windows) {
  const create = (window: WindowName, duration: number) =>
    new RateLimiterRedis({
      storeClient: redis.client,
      keyPrefix: `${redis.keyPrefix}${name}:${window}`,
      points: rate[window],
      duration,
      // Used if Redis fails.
      insuranceLimiter: windows[window],
      rejectIfRedisNotReady: true,
    });
  return { burst: create("burst", BURST_S), sustained: create("sustained", SUSTAINED_S) };
}

/** Counts a use. The library throws its result if the limit is exceeded. */
async function countUse(limiter: RateLimiterLike, key: string): Promise<WindowUsage> {
  try {
    return toUsage(await limiter.consume(key));
  } catch (error) {
    if (error instanceof RateLimiterRes) return toUsage(error);
    throw error;
  }
}

const toUsage = ({ consumedPoints, msBeforeNext }: RateLimiterRes): WindowUsage => ({
  points: consumedPoints,
  endsAtMs: Date.now() + Math.max(0, msBeforeNext),
});

const toOptionalUsage = (result: RateLimiterRes | null): WindowUsage | undefined =>
  result ? toUsage(result) : undefined;
