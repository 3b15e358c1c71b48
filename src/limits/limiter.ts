import { type RateLimiterLike, RateLimiterRedis, RateLimiterRes } from "rate-limiter-flexible";
import { BoundedCache } from "../cache/bounded-cache.ts";
import type { RedisLink } from "../redis/link.ts";
import { KEYS_MAX, MemoryWindow, type Use } from "./memory-window.ts";

/** The two windows of every rate: a short one against bursts, a longer one against sustained load. */
export const BURST_S = 10;
export const SUSTAINED_S = 60;

export type WindowName = "burst" | "sustained";
export type Rate = { burst: number; sustained: number };

/** A limiter's decision on one use, and its headers (draft-ietf-httpapi-ratelimit-headers). */
export class Verdict {
  /** @param policy `RateLimit-Policy`: the windows. */
  constructor(
    readonly policy: string,
    private readonly burst: WindowState,
    private readonly sustained: WindowState,
  ) {}

  get isAllowed(): boolean {
    return this.burst.left >= 0 && this.sustained.left >= 0;
  }

  /** The remaining quota of the tightest window. */
  get remaining(): number {
    return Math.max(0, Math.min(this.burst.left, this.sustained.left));
  }

  /** The exhausted windows. */
  get violated(): WindowName[] {
    const names: WindowName[] = [];
    if (this.burst.left < 0) names.push("burst");
    if (this.sustained.left < 0) names.push("sustained");
    return names;
  }

  /** Milliseconds until all of them have room again; 0 when the use was allowed. */
  get retryAfterMs(): number {
    if (this.isAllowed) return 0;
    const waits = [this.burst, this.sustained].map(({ left, endsInMs }) => (left < 0 ? endsInMs : 0));
    return Math.max(1, ...waits);
  }

  /** `RateLimit`: the state of the windows. Built on demand: most uses of an address are never reported. */
  get state(): string {
    const { burst, sustained } = this;
    return (
      `"burst";r=${Math.max(0, burst.left)};t=${Math.ceil(burst.endsInMs / 1_000)}, ` +
      `"sustained";r=${Math.max(0, sustained.left)};t=${Math.ceil(sustained.endsInMs / 1_000)}`
    );
  }
}

/** The remaining quota of a window (below 0: this use was refused), and when it ends. */
type WindowState = { left: number; endsInMs: number };

export type Limiter = {
  /** Counts one use. Immediate when counted in this process; a round trip with Redis. */
  consume(key: string): Verdict | Promise<Verdict>;
  /** Whether the next use would be allowed; counts nothing. */
  peek(key: string): Verdict | Promise<Verdict>;
};

type Options = { name: string; rate: Rate; redis: RedisLink | null; keysMax?: number };

/**
 * A rate limit for each of many keys. Uses refused by the burst window don't count in the sustained one: a caller who is too
 * fast for some seconds isn't blocked for the rest of the minute.
 */
export function createLimiter({ name, rate, redis, keysMax = KEYS_MAX }: Options): Limiter {
  const windows = {
    burst: new MemoryWindow({ points: rate.burst, durationS: BURST_S, keysMax }),
    sustained: new MemoryWindow({ points: rate.sustained, durationS: SUSTAINED_S, keysMax }),
  };
  const policy = `"burst";q=${rate.burst};w=${BURST_S}, "sustained";q=${rate.sustained};w=${SUSTAINED_S}`;

  /** @param cost 1 if the judged use is not counted yet. */
  function judge(burst: Use | undefined, sustained: Use | undefined, cost: 0 | 1): Verdict {
    const nowMs = Date.now();
    const stand = (use: Use | undefined, points: number, durationS: number): WindowState => ({
      left: points - (use?.points ?? 0) - cost,
      endsInMs: use ? Math.max(0, use.endsAtMs - nowMs) : durationS * 1_000,
    });
    return new Verdict(policy, stand(burst, rate.burst, BURST_S), stand(sustained, rate.sustained, SUSTAINED_S));
  }

  function consumeHere(key: string): Verdict {
    const burst = windows.burst.hit(key);
    const isOver = burst.points > rate.burst;
    return judge(burst, isOver ? windows.sustained.peek(key) : windows.sustained.hit(key), 0);
  }
  const peekHere = (key: string) => judge(windows.burst.peek(key), windows.sustained.peek(key), 1);
  if (redis === null) return { consume: consumeHere, peek: peekHere };

  const shared = createSharedWindows(name, rate, redis, windows);
  /** Uses refused by the burst window: persistent callers reach neither Redis nor the other window. */
  const refused = new BoundedCache<{ burst: Use; sustained: Use }>({ max: keysMax, ttlMs: BURST_S * 1_000 });

  async function consumeShared(key: string): Promise<Verdict> {
    const known = refused.get(key);
    if (known && known.burst.endsAtMs > Date.now()) return judge(known.burst, known.sustained, 0);
    const [burst, sustained] = await Promise.all([use(shared.burst, key), use(shared.sustained, key)]);
    if (burst.points > rate.burst) refused.set(key, { burst, sustained });
    return judge(burst, sustained, 0);
  }

  return {
    consume: (key) => (redis.isAlive() ? consumeShared(key) : consumeHere(key)),
    async peek(key) {
      if (!redis.isAlive()) return peekHere(key);
      const [burst, sustained] = await Promise.all([shared.burst.get(key), shared.sustained.get(key)]);
      return judge(mapToUse(burst), mapToUse(sustained), 1);
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
      // If Redis fails, a use is judged by this instance's own count.
      insuranceLimiter: windows[window],
      rejectIfRedisNotReady: true,
    });
  return { burst: create("burst", BURST_S), sustained: create("sustained", SUSTAINED_S) };
}

/** Counts a use; the library throws when it refuses. */
async function use(limiter: RateLimiterLike, key: string): Promise<Use> {
  try {
    return toUse(await limiter.consume(key));
  } catch (refusal) {
    if (refusal instanceof RateLimiterRes) return toUse(refusal);
    throw refusal;
  }
}

const toUse = ({ consumedPoints, msBeforeNext }: RateLimiterRes): Use => ({
  points: consumedPoints,
  endsAtMs: Date.now() + Math.max(0, msBeforeNext),
});

const mapToUse = (result: RateLimiterRes | null): Use | undefined => (result ? toUse(result) : undefined);
