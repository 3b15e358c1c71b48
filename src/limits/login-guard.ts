import { createHash } from "node:crypto";
import { type RateLimiterLike, RateLimiterRedis } from "rate-limiter-flexible";
import type { Problem } from "../lib/problem.ts";
import type { RedisLink } from "../redis/link.ts";
import { createAddressKey } from "./address-key.ts";
import { MemoryWindow } from "./memory-window.ts";
import { createLimitProblem } from "./refusal.ts";

/** The first wait; each further failure doubles it. */
const INITIAL_WAIT_S = 1;
export const WAIT_S_MAX = 15 * 60;
/** How long failures of an account from one address are remembered, from the first one or until a success. */
const REMEMBERED_S = 60 * 60;
/** The same for failures of an account from any address, and of an address for any account. */
const BROAD_REMEMBERED_S = 15 * 60;
/** Others cannot lock an account for addresses that used it within this time. */
const KNOWN_ADDRESS_S = 24 * 60 * 60;

/** Failures allowed before waits begin: for an account from one address, an account, an address. */
type LoginScope = "account_and_address" | "account" | "address";
export type LoginFailures = Record<LoginScope, number>;

/** A new lock, for the audit log. */
export type LoginLock = { scope: LoginScope; waitS: number };

type Options = {
  failures: LoginFailures;
  redis: RedisLink | null;
  onRefused(): void;
  /** The kind of failures: names the policies in the headers of a refusal, and the keys. */
  name?: string;
  /** The text of a refusal. */
  detail?: string;
  /** Whether a success clears earlier failures, and makes the address known. */
  isForgiving?: boolean;
};

/**
 * Why a client's address is known: this account was used from it recently (`account`), or another one (`address`).
 * Determined without checking a password.
 */
export type KnownBy = "account" | "address" | "nothing";

type LoginAttempt = {
  knownBy: KnownBy;
  /** The password was wrong. @returns new locks caused by this. @throws Problem `rate_limited`, see `begin`. */
  fail(): Promise<LoginLock[]>;
  /** The password was right. @throws Problem `rate_limited` if a lock was set during the check. */
  succeed(): Promise<void>;
};

export type LoginGuard = {
  /**
   * Call before checking a password.
   * @param account identifies the account, whether it exists or not: both get the same response, after the same time.
   * @throws Problem `rate_limited` while locked, even for the right password.
   */
  begin(account: string, ipAddress: string | null): Promise<LoginAttempt>;

  /** Why an address is known, before the account is. */
  findKnown(ipAddress: string | null): Promise<Exclude<KnownBy, "account">>;

  /** Marks an address as used by an account that authenticated without its password. */
  remember(account: string, ipAddress: string | null): Promise<void>;
};

/** Used when limits are off. */
export const noLoginGuard: LoginGuard = {
  begin: async () => ({ knownBy: "nothing", fail: async () => [], succeed: async () => {} }),
  findKnown: async () => "nothing",
  remember: async () => {},
};

/**
 * Slows down password guessing. Failures are counted, not attempts: any number of logins with the right password may run
 * concurrently. Of concurrent guesses, those after the last free one are all refused alike, right or wrong, so they reveal
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
  // Separate, so that one address with many accounts can't evict the other addresses.
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
   * @param begun the failures when the attempt began: an attempt overtaken by the failure that set a lock is refused even if
   * that lock has ended.
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

  /** @param waits in the order of `keys`; 0 for those that aren't locked. */
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
          // If several looked at the same time, the count decides.
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

/** @returns the lock set by this failure, if any. */
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
