import { type RateLimiterLike, RateLimiterRedis, RateLimiterRes } from "rate-limiter-flexible";
import { BoundedCache } from "../cache/bounded-cache.ts";
import type { RedisLink } from "../redis/link.ts";
import { KEYS_MAX, MemoryWindow, type Use } from "./memory-window.ts";

/** The two windows that every rate has: a short one against bursts, a longer one against what goes on and on. */
export const BURST_S = 10;
export const SUSTAINED_S = 60;

export type WindowName = "burst" | "sustained";
export type Rate = { burst: number; sustained: number };

/** What a limiter says of one use, and what it tells the caller (draft-ietf-httpapi-ratelimit-headers). */
export class Verdict {
  /** @param policy `RateLimit-Policy`: what the windows are. */
  constructor(
    readonly policy: string,
    private readonly burst: Standing,
    private readonly sustained: Standing,
  ) {}

  get isAllowed(): boolean {
    return this.burst.left >= 0 && this.sustained.left >= 0;
  }

  /** What is left of the window that has least. */
  get remaining(): number {
    return Math.max(0, Math.min(this.burst.left, this.sustained.left));
  }

  /** The windows that are used up. */
  get violated(): WindowName[] {
    const names: WindowName[] = [];
    if (this.burst.left < 0) names.push("burst");
    if (this.sustained.left < 0) names.push("sustained");
    return names;
  }

  /** Until all of them have room again; 0 when the use was allowed. */
  get retryAfterMs(): number {
    if (this.isAllowed) return 0;
    const waits = [this.burst, this.sustained].map(({ left, endsInMs }) => (left < 0 ? endsInMs : 0));
    return Math.max(1, ...waits);
  }

  /** `RateLimit`: where the caller stands in them. Made only where it is told: most uses of an address are not. */
  get state(): string {
    const { burst, sustained } = this;
    return (
      `"burst";r=${Math.max(0, burst.left)};t=${Math.ceil(burst.endsInMs / 1_000)}, ` +
      `"sustained";r=${Math.max(0, sustained.left)};t=${Math.ceil(sustained.endsInMs / 1_000)}`
    );
  }
}

/** What is left of a window (below 0: nothing, and this use was refused), and when it ends. */
type Standing = { left: number; endsInMs: number };

export type Limiter = {
  /** Counts one use. In one process it answers at once, with Redis after a round trip. */
  consume(key: string): Verdict | Promise<Verdict>;
  /** Whether the next use would be allowed; counts nothing. */
  peek(key: string): Verdict | Promise<Verdict>;
};

type Options = { name: string; rate: Rate; redis: RedisLink | null; keysMax?: number };

/**
 * A rate for each of many keys. What the burst window refuses does not count in the other one: a caller who is too fast for
 * some seconds is not held up for the rest of the minute.
 */
export function createLimiter({ name, rate, redis, keysMax = KEYS_MAX }: Options): Limiter {
  const windows = {
    burst: new MemoryWindow({ points: rate.burst, durationS: BURST_S, keysMax }),
    sustained: new MemoryWindow({ points: rate.sustained, durationS: SUSTAINED_S, keysMax }),
  };
  const policy = `"burst";q=${rate.burst};w=${BURST_S}, "sustained";q=${rate.sustained};w=${SUSTAINED_S}`;

  /** @param asked 1 when the use that is judged is not yet part of what is used. */
  function judge(burst: Use | undefined, sustained: Use | undefined, asked: 0 | 1): Verdict {
    const nowMs = Date.now();
    const stand = (use: Use | undefined, points: number, durationS: number): Standing => ({
      left: points - (use?.points ?? 0) - asked,
      endsInMs: use ? Math.max(0, use.endsAtMs - nowMs) : durationS * 1_000,
    });
    return new Verdict(policy, stand(burst, rate.burst, BURST_S), stand(sustained, rate.sustained, SUSTAINED_S));
  }

  function consumeHere(key: string): Verdict {
    const burst = windows.burst.hit(key);
    const isOver = burst.points > rate.burst;
    return judge(burst, isOver ? windows.sustained.look(key) : windows.sustained.hit(key), 0);
  }
  const peekHere = (key: string) => judge(windows.burst.look(key), windows.sustained.look(key), 1);
  if (redis === null) return { consume: consumeHere, peek: peekHere };

  const shared = createSharedWindows(name, rate, redis, windows);
  /** What the burst window refused, so that those who do not stop reach neither Redis nor the other window. */
  const refused = new BoundedCache<{ burst: Use; sustained: Use }>({ max: keysMax, keptMs: BURST_S * 1_000 });

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
      // Whatever goes wrong with Redis, a use is judged by what this instance has counted itself.
      insuranceLimiter: windows[window],
      rejectIfRedisNotReady: true,
    });
  return { burst: create("burst", BURST_S), sustained: create("sustained", SUSTAINED_S) };
}

/** Counts a use; the library throws what it refuses. */
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
