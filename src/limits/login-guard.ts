import { createHash } from "node:crypto";
import { type RateLimiterLike, RateLimiterRedis } from "rate-limiter-flexible";
import type { Problem } from "../lib/problem.ts";
import type { RedisLink } from "../redis/link.ts";
import { createAddressKey } from "./address-key.ts";
import { MemoryWindow } from "./memory-window.ts";
import { createLimitProblem } from "./refusal.ts";

/** The first waiting time. Each further failure doubles it. */
const INITIAL_WAIT_S = 1;
export const WAIT_S_MAX = 15 * 60;
/** How long failures of an account from one address are remembered, from the first one or until a success. */
const REMEMBERED_S = 60 * 60;
/** How long failures of an account from any address, and of an address for any account, are remembered. */
const BROAD_REMEMBERED_S = 15 * 60;
/** An account isn't locked for addresses that used it within this time, even if others cause failures. */
const KNOWN_ADDRESS_S = 24 * 60 * 60;

/** What failures are counted for: an account from one IP address, an account, or an IP address. */
type LoginScope = "account_and_address" | "account" | "address";
export type LoginFailures = Record<LoginScope, number>;

/** A new lock, to be recorded in the audit log. */
export type LoginLock = { scope: LoginScope; waitS: number };

type Options = {
  failures: LoginFailures;
  redis: RedisLink | null;
  onRefused(): void;
  /** The prefix of the policies in a refusal's headers and of the keys. */
  name?: string;
  /** The message of a refusal. */
  detail?: string;
  /** Whether a success clears earlier failures and makes the address known. */
  isForgiving?: boolean;
};

/**
 * Why a client's IP address is known: this account was used from it recently (`account`), or another one was (`address`).
 * Known without checking a password.
 */
export type KnownBy = "account" | "address" | "nothing";

type LoginAttempt = {
  knownBy: KnownBy;
  /** Records a wrong password. @returns new locks that it caused. @throws Problem `rate_limited` as `begin` does. */
  fail(): Promise<LoginLock[]>;
  /** Records a right password. @throws Problem `rate_limited` if a lock was set during the check. */
  succeed(): Promise<void>;
};

export type LoginGuard = {
  /**
   * Begins an attempt. Call this before checking a password.
   * @param account identifies the account. If it doesn't exist, the response and its timing are the same.
   * @throws Problem `rate_limited` while locked, even for the right password.
   */
  begin(account: string, ipAddress: string | null): Promise<LoginAttempt>;

  /** Returns why an IP address is known, for a request that doesn't name an account. */
  findKnown(ipAddress: string | null): Promise<Exclude<KnownBy, "account">>;

  /** Records that an account authenticated from an IP address without a password. */
  remember(account: string, ipAddress: string | null): Promise<void>;
};

/** The guard to use if limits are off. */
export const noLoginGuard: LoginGuard = {
  begin: async () => ({ knownBy: "nothing", fail: async () => [], succeed: async () => {} }),
  findKnown: async () => "nothing",
  remember: async () => {},
};

/**
 * Creates a guard that slows down password guessing. Only failures are counted, so any number of logins with the right password
 * may run concurrently. If concurrent guesses exceed the limit, all further ones are refused, right or wrong, so they reveal
 * nothing.
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
  const account = createScope("account", BROAD_REMEMBERED_S);
  const address = createScope("address", BROAD_REMEMBERED_S);
  const knownPairs = createWindow(`${guardName}:known`, KNOWN_ADDRESS_S, redis);
  // Kept separately, so that one address with many accounts can't evict the other addresses.
  const knownAddresses = createWindow(`${guardName}:known_address`, KNOWN_ADDRESS_S, redis);

  async function remember({ pairKey, addressKey }: Keys): Promise<void> {
    await Promise.all([
      knownPairs.set(pairKey, 1, KNOWN_ADDRESS_S),
      knownAddresses.set(addressKey, 1, KNOWN_ADDRESS_S),
    ]);
  }

  async function findKnown({ pairKey, addressKey }: Keys): Promise<KnownBy> {
    const [pair, address] = await Promise.all([knownPairs.get(pairKey), knownAddresses.get(addressKey)]);
    if (pair !== null) return "account";
    return address === null ? "nothing" : "address";
  }

  /**
   * @param begun the failures when the attempt began. An attempt that was overtaken by the failure that set a lock is refused,
   * even if the lock has ended by now.
   * @returns the failures so far, in the order of `keys`.
   */
  async function requireUnlocked(keys: ScopedKey[], begun?: number[]): Promise<number[]> {
    const states = await Promise.all(keys.map(readState));
    const waits = states.map(({ waitMs, failed, failuresMax }, index) => {
      const wasOvertaken = begun !== undefined && isOvertaken(failed, begun[index] ?? 0, failuresMax);
      return wasOvertaken ? Math.max(waitMs, INITIAL_WAIT_S * 1_000) : waitMs;
    });
    if (Math.max(...waits) === 0) return states.map(({ failed }) => failed);
    throw refuse(keys, waits);
  }

  /** @param waits the remaining waits in the order of `places`; 0 for those that aren't locked. */
  function refuse(places: ScopedKey[], waits: number[]): Problem {
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
      const places: ScopedKey[] = [{ scope: narrow, key: pairKey }];
      if (knownBy !== "account") places.push({ scope: account, key: accountKey });
      if (ipAddress !== null) places.push({ scope: address, key: addressKey });
      const begun = await requireUnlocked(places);
      return {
        knownBy,
        async fail() {
          await requireUnlocked(places, begun);
          const counts = await Promise.all(places.map((place, index) => countFailure(place, begun[index] ?? 0)));
          // If several attempts began at the same time, the count decides.
          if (counts.includes("overtaken"))
            throw refuse(
              places,
              counts.map((count) => (count === "overtaken" ? INITIAL_WAIT_S * 1_000 : 0)),
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
type ScopedKey = { scope: Scope; key: string };

async function readState({ scope, key }: ScopedKey) {
  const [lock, count] = await Promise.all([scope.locks.get(key), scope.counts.get(key)]);
  return { waitMs: lock?.msBeforeNext ?? 0, failed: count?.consumedPoints ?? 0, failuresMax: scope.failuresMax };
}

/** Whether an attempt that began after `begun` failures was overtaken by the one that set a lock. */
const isOvertaken = (failed: number, begun: number, failuresMax: number): boolean =>
  failed > begun && failed >= failuresMax;

/** Counts a failure. @returns the lock that it set, if any. */
async function countFailure({ scope, key }: ScopedKey, begun: number): Promise<LoginLock | "overtaken" | null> {
  const { consumedPoints } = await scope.counts.penalty(key);
  if (isOvertaken(consumedPoints - 1, begun, scope.failuresMax)) return "overtaken";
  const beyond = consumedPoints - scope.failuresMax;
  if (beyond < 0) return null;
  const waitS = Math.min(INITIAL_WAIT_S * 2 ** beyond, WAIT_S_MAX);
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
