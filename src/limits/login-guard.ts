import { createHash } from "node:crypto";
import { type RateLimiterLike, RateLimiterRedis } from "rate-limiter-flexible";
import type { Problem } from "../lib/problem.ts";
import type { RedisLink } from "../redis/link.ts";
import { createAddressKey } from "./address-key.ts";
import { createLimitProblem } from "./limit-problem.ts";
import { MemoryWindow } from "./memory-window.ts";

/** Duration of the first lock. It doubles with each further failure. */
const INITIAL_WAIT_S = 1;
export const WAIT_S_MAX = 15 * 60;
/** Window for failures of an account from one address. A success resets them. */
const NARROW_WINDOW_S = 60 * 60;
/** Window for failures of an account from any address, and for failures of an address with any account. */
const BROAD_WINDOW_S = 15 * 60;
/** Time after a login in which failures from other addresses don't lock the account for this address. */
const KNOWN_ADDRESS_S = 24 * 60 * 60;

/** The counter of failures: per account and IP address, per account, or per IP address. */
type LoginScope = "account_and_address" | "account" | "address";
export type LoginFailures = Record<LoginScope, number>;

/** A new lock, to be recorded in the audit log. */
export type LoginLock = { scope: LoginScope; waitS: number };

type Options = {
  failures: LoginFailures;
  redis: RedisLink | null;
  onRejected(): void;
  /** The prefix of the keys, and of the policies in the headers of an error. */
  name?: string;
  /** The error message. */
  detail?: string;
  /** Whether a success resets earlier failures and makes the address known. */
  resetsOnSuccess?: boolean;
};

/**
 * Whether a client's IP address is known. With `account`, this account was recently used from the address. With `address`, only
 * a different account was. Can be determined before the password is checked.
 */
export type KnownBy = "account" | "address" | "nothing";

type LoginAttempt = {
  knownBy: KnownBy;
  /** Records an incorrect password. Returns the locks that it caused. @throws Problem `rate_limited` as `startAttempt` does. */
  fail(): Promise<LoginLock[]>;
  /** Records a correct password. @throws Problem `rate_limited` if a lock was set while the password was checked. */
  succeed(): Promise<void>;
};

export type LoginGuard = {
  /**
   * Starts an attempt. Must be called before a password is checked.
   * @param account identifies the account, which might not exist.
   * @throws Problem `rate_limited` while there is a lock, even if the password is correct.
   */
  startAttempt(account: string, ipAddress: string | null): Promise<LoginAttempt>;

  /** Returns whether an IP address is known, for a request without an account. */
  findKnownBy(ipAddress: string | null): Promise<Exclude<KnownBy, "account">>;

  /** Records that an account authenticated from an IP address without a password. */
  rememberAddress(account: string, ipAddress: string | null): Promise<void>;
};

/** The guard to use if limits are off. */
export const noLoginGuard: LoginGuard = {
  startAttempt: async () => ({ knownBy: "nothing", fail: async () => [], succeed: async () => {} }),
  findKnownBy: async () => "nothing",
  rememberAddress: async () => {},
};

/**
 * Creates a guard that slows down password guessing. Only failures are counted, so logins with the correct password are
 * unlimited. If concurrent guesses exceed the limit, all further guesses are rejected, even a correct one, so that the responses
 * reveal nothing.
 */
export function createLoginGuard({
  failures,
  redis,
  onRejected,
  name: guardName = "login",
  detail = "Too many logins have failed; wait before the next one.",
  resetsOnSuccess = true,
}: Options): LoginGuard {
  const createScope = (scope: LoginScope, durationS: number): Scope => ({
    scope,
    policy: `${guardName}_${scope}`,
    failuresMax: failures[scope],
    windowS: durationS,
    counts: createWindow(`${guardName}:${scope}:failures`, durationS, redis),
    locks: createWindow(`${guardName}:${scope}:lock`, WAIT_S_MAX, redis),
  });
  const pairScope = createScope("account_and_address", NARROW_WINDOW_S);
  const accountScope = createScope("account", BROAD_WINDOW_S);
  const addressScope = createScope("address", BROAD_WINDOW_S);
  const knownPairs = createWindow(`${guardName}:known`, KNOWN_ADDRESS_S, redis);
  // Addresses are stored separately, so that one address with many accounts can't evict the others.
  const knownAddresses = createWindow(`${guardName}:known_address`, KNOWN_ADDRESS_S, redis);

  async function rememberAddress({ pairKey, addressKey }: Keys): Promise<void> {
    await Promise.all([
      knownPairs.set(pairKey, 1, KNOWN_ADDRESS_S),
      knownAddresses.set(addressKey, 1, KNOWN_ADDRESS_S),
    ]);
  }

  async function findKnownBy({ pairKey, addressKey }: Keys): Promise<KnownBy> {
    const [pair, address] = await Promise.all([knownPairs.get(pairKey), knownAddresses.get(addressKey)]);
    if (pair !== null) return "account";
    return address === null ? "nothing" : "address";
  }

  /**
   * Checks that there is no lock.
   * @param initialFailures the failures when the attempt began. If a lock was set since then, the attempt is rejected, even if
   * the lock has already expired.
   * @returns the number of failures for each key.
   */
  async function checkLocks(keys: ScopedKey[], initialFailures?: number[]): Promise<number[]> {
    const states = await Promise.all(keys.map(getLockState));
    const waitsMs = states.map(({ waitMs, failureCount, failuresMax }, index) => {
      const isLocked =
        initialFailures !== undefined && wasLockedMeanwhile(failureCount, initialFailures[index] ?? 0, failuresMax);
      return isLocked ? Math.max(waitMs, INITIAL_WAIT_S * 1_000) : waitMs;
    });
    if (Math.max(...waitsMs) === 0) return states.map(({ failureCount }) => failureCount);
    throw createRejection(keys, waitsMs);
  }

  /** @param waitsMs the remaining duration of each key's lock, or 0 if the key isn't locked. */
  function createRejection(scopedKeys: ScopedKey[], waitsMs: number[]): Problem {
    onRejected();
    const exhausted = scopedKeys.flatMap(({ scope: { policy, failuresMax: quota, windowS } }, index) => {
      const waitMs = waitsMs[index] ?? 0;
      return waitMs > 0 ? [{ policy, quota, windowS, waitMs }] : [];
    });
    return createLimitProblem(detail, exhausted);
  }

  return {
    async startAttempt(account, ipAddress) {
      const keys = createKeys(account, ipAddress);
      const { accountKey, addressKey, pairKey } = keys;
      const knownBy = await findKnownBy(keys);
      const scopedKeys: ScopedKey[] = [{ scope: pairScope, key: pairKey }];
      if (knownBy !== "account") scopedKeys.push({ scope: accountScope, key: accountKey });
      if (ipAddress !== null) scopedKeys.push({ scope: addressScope, key: addressKey });
      const initialFailures = await checkLocks(scopedKeys);
      return {
        knownBy,
        async fail() {
          await checkLocks(scopedKeys, initialFailures);
          const counts = await Promise.all(
            scopedKeys.map((scopedKey, index) => countFailure(scopedKey, initialFailures[index] ?? 0)),
          );
          // Concurrent attempts may have exceeded the limit.
          if (counts.includes("locked"))
            throw createRejection(
              scopedKeys,
              counts.map((count) => (count === "locked" ? INITIAL_WAIT_S * 1_000 : 0)),
            );
          return counts.filter((count) => count !== null && count !== "locked");
        },
        async succeed() {
          await checkLocks(scopedKeys, initialFailures);
          if (resetsOnSuccess) await Promise.all([pairScope.counts.delete(pairKey), rememberAddress(keys)]);
        },
      };
    },

    async findKnownBy(ipAddress) {
      const address = await knownAddresses.get(createAddressKeyOrNone(ipAddress));
      return address === null ? "nothing" : "address";
    },

    rememberAddress: (account, ipAddress) => rememberAddress(createKeys(account, ipAddress)),
  };
}

type Keys = { accountKey: string; addressKey: string; pairKey: string };

function createKeys(account: string, ipAddress: string | null): Keys {
  const accountKey = createHash("sha256").update(account).digest("base64url");
  const addressKey = createAddressKeyOrNone(ipAddress);
  return { accountKey, addressKey, pairKey: `${accountKey}:${addressKey}` };
}

const createAddressKeyOrNone = (ipAddress: string | null): string =>
  ipAddress === null ? "none" : createAddressKey(ipAddress);

type Scope = {
  scope: LoginScope;
  policy: string;
  failuresMax: number;
  windowS: number;
  counts: RateLimiterLike;
  locks: RateLimiterLike;
};
type ScopedKey = { scope: Scope; key: string };

async function getLockState({ scope, key }: ScopedKey) {
  const [lock, count] = await Promise.all([scope.locks.get(key), scope.counts.get(key)]);
  return { waitMs: lock?.msBeforeNext ?? 0, failureCount: count?.consumedPoints ?? 0, failuresMax: scope.failuresMax };
}

/** Whether another attempt has set a lock since this attempt began. */
const wasLockedMeanwhile = (failureCount: number, initialFailures: number, failuresMax: number): boolean =>
  failureCount > initialFailures && failureCount >= failuresMax;

/** Counts a failure. Returns the lock that it set, if any. */
async function countFailure({ scope, key }: ScopedKey, initialFailures: number): Promise<LoginLock | "locked" | null> {
  const { consumedPoints } = await scope.counts.penalty(key);
  if (wasLockedMeanwhile(consumedPoints - 1, initialFailures, scope.failuresMax)) return "locked";
  const excess = consumedPoints - scope.failuresMax;
  if (excess < 0) return null;
  const waitS = Math.min(INITIAL_WAIT_S * 2 ** excess, WAIT_S_MAX);
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
