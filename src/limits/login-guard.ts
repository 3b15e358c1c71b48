import { createHash } from "node:crypto";
import { type RateLimiterLike, RateLimiterRedis } from "rate-limiter-flexible";
import type { Problem } from "../lib/problem.ts";
import type { RedisLink } from "../redis/link.ts";
import { createAddressKey } from "./address-key.ts";
import { MemoryWindow } from "./memory-window.ts";
import { createLimitProblem } from "./refusal.ts";

/** The first wait; each further failure doubles it. */
const FIRST_WAIT_S = 1;
export const WAIT_S_MAX = 15 * 60;
/** Failures of one account from one address are remembered for so long after the first of them, or until a success. */
const REMEMBERED_S = 60 * 60;
/** And those of an account from wherever, and of an address for whatever accounts. */
const WIDE_REMEMBERED_S = 15 * 60;
/** From where an account was used in this time, others cannot lock it. */
const KNOWN_S = 24 * 60 * 60;

/** What may fail so often before there are waits: an account from one address, an account, an address. */
type LoginScope = "account_and_address" | "account" | "address";
export type LoginFailures = Record<LoginScope, number>;

/** A lock that was just set, for the audit record. */
export type LoginLock = { scope: LoginScope; waitS: number };

type Options = {
  failures: LoginFailures;
  redis: RedisLink | null;
  onRefused(): void;
  /** What fails: names the policies in the headers of a refusal, and the keys. */
  name?: string;
  /** The text of a refusal. */
  detail?: string;
  /** Whether a success clears the failures before it, and makes the address known. */
  isForgiving?: boolean;
};

/**
 * What a client is known by: an account was used from its address lately, that one (`account`) or any other (`address`).
 * It costs no look at a password.
 */
export type KnownBy = "account" | "address" | "nothing";

type LoginAttempt = {
  knownBy: KnownBy;
  /** The password was wrong. @returns locks that are new by this. @throws Problem `rate_limited`, see `begin`. */
  fail(): Promise<LoginLock[]>;
  /** The password was right. @throws Problem `rate_limited` when a lock was set while it was checked. */
  succeed(): Promise<void>;
};

export type LoginGuard = {
  /**
   * Before a password is looked at.
   * @param account what names the account, whether there is one or not: the same words for both, after the same time.
   * @throws Problem `rate_limited` while a lock is on, also for the right password.
   */
  begin(account: string, ipAddress: string | null): Promise<LoginAttempt>;

  /** What an address is known by, before there is an account. */
  findKnown(ipAddress: string | null): Promise<Exclude<KnownBy, "account">>;

  /** An account is used from an address, which was proved without its password. */
  remember(account: string, ipAddress: string | null): Promise<void>;
};

/** For where limits are turned off. */
export const openLoginGuard: LoginGuard = {
  begin: async () => ({ knownBy: "nothing", fail: async () => [], succeed: async () => {} }),
  findKnown: async () => "nothing",
  remember: async () => {},
};

/**
 * Slows down whoever guesses passwords. Failures are counted, and not attempts: any number of logins with the right
 * password may run at once. Of guesses that run at once, those after the last free one are answered like all that come too
 * early, right or wrong, so that nothing is learned from them.
 */
export function createLoginGuard({
  failures,
  redis,
  onRefused,
  name: guardName = "login",
  detail = "Too many logins have failed; wait before the next one.",
  isForgiving = true,
}: Options): LoginGuard {
  const createScope = (scope: LoginScope, durationS: number): Scope => ({
    scope,
    policy: `${guardName}_${scope}`,
    failuresMax: failures[scope],
    rememberedS: durationS,
    counts: createWindow(`${guardName}:${scope}:failures`, durationS, redis),
    locks: createWindow(`${guardName}:${scope}:lock`, WAIT_S_MAX, redis),
  });
  const narrow = createScope("account_and_address", REMEMBERED_S);
  const account = createScope("account", WIDE_REMEMBERED_S);
  const address = createScope("address", WIDE_REMEMBERED_S);
  const knownPairs = createWindow(`${guardName}:known`, KNOWN_S, redis);
  // Apart, so that one address with many accounts does not have the other addresses forgotten.
  const knownAddresses = createWindow(`${guardName}:known_address`, KNOWN_S, redis);

  async function remember({ pairKey, addressKey }: Keys): Promise<void> {
    await Promise.all([knownPairs.set(pairKey, 1, KNOWN_S), knownAddresses.set(addressKey, 1, KNOWN_S)]);
  }

  async function findKnown({ pairKey, addressKey }: Keys): Promise<KnownBy> {
    const [pair, address] = await Promise.all([knownPairs.get(pairKey), knownAddresses.get(addressKey)]);
    if (pair !== null) return "account";
    return address === null ? "nothing" : "address";
  }

  /**
   * @param begun what had failed when the attempt began: who was overtaken by the failure that set a lock is refused even
   * when that lock has ended by now. @returns what has failed so far, in the order of `places`.
   */
  async function requireUnlocked(places: Place[], begun?: number[]): Promise<number[]> {
    const states = await Promise.all(places.map(look));
    const waits = states.map(({ waitMs, failed, failuresMax }, index) => {
      const wasOvertaken = begun !== undefined && isOvertaken(failed, begun[index] ?? 0, failuresMax);
      return wasOvertaken ? Math.max(waitMs, FIRST_WAIT_S * 1_000) : waitMs;
    });
    if (Math.max(...waits) === 0) return states.map(({ failed }) => failed);
    throw refuse(places, waits);
  }

  /** @param waits in the order of `places`; 0 for those that have room. */
  function refuse(places: Place[], waits: number[]): Problem {
    onRefused();
    const usedUp = places.flatMap(({ scope: { policy, failuresMax: quota, rememberedS: windowS } }, index) => {
      const waitMs = waits[index] ?? 0;
      return waitMs > 0 ? [{ policy, quota, windowS, waitMs }] : [];
    });
    return createLimitProblem(detail, usedUp);
  }

  return {
    async begin(name, ipAddress) {
      const keys = createKeys(name, ipAddress);
      const { accountKey, addressKey, pairKey } = keys;
      const knownBy = await findKnown(keys);
      const places: Place[] = [{ scope: narrow, key: pairKey }];
      if (knownBy !== "account") places.push({ scope: account, key: accountKey });
      if (ipAddress !== null) places.push({ scope: address, key: addressKey });
      const begun = await requireUnlocked(places);
      return {
        knownBy,
        async fail() {
          await requireUnlocked(places, begun);
          const counts = await Promise.all(places.map((place, index) => countFailure(place, begun[index] ?? 0)));
          // Of several that looked at the same time, the count decides.
          if (counts.includes("overtaken"))
            throw refuse(
              places,
              counts.map((count) => (count === "overtaken" ? FIRST_WAIT_S * 1_000 : 0)),
            );
          return counts.filter((count) => count !== null && count !== "overtaken");
        },
        async succeed() {
          await requireUnlocked(places, begun);
          if (isForgiving) await Promise.all([narrow.counts.delete(pairKey), remember(keys)]);
        },
      };
    },

    async findKnown(ipAddress) {
      const address = await knownAddresses.get(createKeyOfAddress(ipAddress));
      return address === null ? "nothing" : "address";
    },

    remember: (name, ipAddress) => remember(createKeys(name, ipAddress)),
  };
}

type Keys = { accountKey: string; addressKey: string; pairKey: string };

function createKeys(account: string, ipAddress: string | null): Keys {
  const accountKey = createHash("sha256").update(account).digest("base64url");
  const addressKey = createKeyOfAddress(ipAddress);
  return { accountKey, addressKey, pairKey: `${accountKey}:${addressKey}` };
}

const createKeyOfAddress = (ipAddress: string | null): string =>
  ipAddress === null ? "none" : createAddressKey(ipAddress);

type Scope = {
  scope: LoginScope;
  policy: string;
  failuresMax: number;
  rememberedS: number;
  counts: RateLimiterLike;
  locks: RateLimiterLike;
};
type Place = { scope: Scope; key: string };

async function look({ scope, key }: Place) {
  const [lock, count] = await Promise.all([scope.locks.get(key), scope.counts.get(key)]);
  return { waitMs: lock?.msBeforeNext ?? 0, failed: count?.consumedPoints ?? 0, failuresMax: scope.failuresMax };
}

/** Whether an attempt that began after `begun` failures came behind the one that set a lock. */
const isOvertaken = (failed: number, begun: number, failuresMax: number): boolean =>
  failed > begun && failed >= failuresMax;

/** @returns the lock that this failure sets, if it does. */
async function countFailure({ scope, key }: Place, begun: number): Promise<LoginLock | "overtaken" | null> {
  const { consumedPoints } = await scope.counts.penalty(key);
  if (isOvertaken(consumedPoints - 1, begun, scope.failuresMax)) return "overtaken";
  const beyond = consumedPoints - scope.failuresMax;
  if (beyond < 0) return null;
  const waitS = Math.min(FIRST_WAIT_S * 2 ** beyond, WAIT_S_MAX);
  await scope.locks.block(key, waitS);
  return { scope: scope.scope, waitS };
}

function createWindow(name: string, duration: number, redis: RedisLink | null): RateLimiterLike {
  const memory = new MemoryWindow({ points: 1, durationS: duration });
  if (redis === null) return memory;
  return new RateLimiterRedis({
    storeClient: redis.client,
    keyPrefix: `${redis.keyPrefix}${name}`,
    points: 1,
    duration,
    insuranceLimiter: memory,
    rejectIfRedisNotReady: true,
  });
}
