import type { Caller, RequestOrigin } from "../../access/caller.ts";
import { BoundedCache } from "../../cache/bounded-cache.ts";
import { createLookupCache } from "../../cache/lookup-cache.ts";
import { type Database, getReservedPool, withTransaction } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import { Problem } from "../../lib/problem.ts";
import { isUuid } from "../../lib/schema.ts";
import type { AuditService } from "../audit/service.ts";
import { hashKey, isKey, KEY_PREFIX } from "./key-format.ts";
import { ACTED_FOR_INTERVAL_MS, KEY_CACHE_MS, KEYS_CACHED_MAX, LAST_USED_INTERVAL_MS } from "./limits.ts";
import * as queries from "./queries.ts";

/** Authenticates API keys. The caller is the key's owner, or the user that the key acts for. */
export interface KeyAuthenticator {
  /** Returns whether a credential looks like an API key. `findCaller` verifies it. */
  looksLikeKey(token: string): boolean;

  /**
   * Finds the caller with this key. Returns null if the key doesn't exist, was deleted or has expired. If its checksum is invalid, no
   * query is needed.
   * @throws Problem `forbidden` if the key isn't allowed to act for the requested user.
   */
  findCaller(key: string, origin: RequestOrigin): Promise<Caller | null>;

  /**
   * Finds the caller that uses a key for a user, such as the caller that a ticket was issued to.
   * @throws Problem `forbidden` if the key isn't allowed to act for the user.
   */
  findCallerByKeyId(holder: queries.KeyHolder, ipAddress: string | null): Promise<Caller | null>;

  /**
   * Finds the callers that have lost access: the key was deleted, the user or owner was disabled or deleted, or the key may no longer
   * act for the user. Detects changes by any instance and the command line.
   */
  findRevoked(callers: readonly Caller[]): Promise<Set<Caller>>;

  /** Removes a key that was deleted on this instance from the cache. */
  forgetKey(hash: string): void;

  /** Clears the cache. Call it when a user's role or status was changed on this instance. */
  forgetUsers(): void;
}

type Dependencies = { database: Database; audit: AuditService; log: Log };

export function createKeyAuthenticator({ database, audit, log }: Dependencies): KeyAuthenticator {
  const getPool = () => getReservedPool(database);
  const cacheOptions = { ttlMs: KEY_CACHE_MS, entriesMax: KEYS_CACHED_MAX };
  const keys = createLookupCache((hash) => queries.findValidKey(getPool(), { hash }), cacheOptions);
  const targetUsers = createLookupCache((userId) => queries.findTargetUser(getPool(), userId), cacheOptions);
  const shouldRecordLastUse = createNameThrottle(LAST_USED_INTERVAL_MS);
  const shouldRecordActingForUser = createNameThrottle(ACTED_FOR_INTERVAL_MS);

  /** Records the last use in the background. As in `recordActingForUser`, the request succeeds even if the write fails. */
  function recordUse(keyId: string): void {
    if (!shouldRecordLastUse(keyId)) return;
    const write = withTransaction(database, (sql) => queries.recordLastUse(sql, keyId));
    write.catch((err) => log.warn({ err }, "recording the last use of an API key failed"));
  }
  function recordActingForUser(key: queries.ValidKey, userId: string, ipAddress: string | null): void {
    if (!shouldRecordActingForUser(formatHolder({ keyId: key.id, userId }))) return;
    const target = { type: "user", id: userId } as const;
    audit
      .record(database, {
        action: "api_key.acted_for",
        actorId: key.owner.id,
        credentialId: key.id,
        target,
        ipAddress,
      })
      .catch((err) =>
        log.error({ err, key_id: key.id, user_id: userId }, "recording that an API key acted for a user failed"),
      );
  }

  /** Finds the user for whom the key makes the request. @throws Problem `forbidden`, which doesn't reveal whether the user exists. */
  async function findUser(key: queries.ValidKey, { onBehalfOf, ipAddress }: RequestOrigin): Promise<Caller["user"]> {
    if (onBehalfOf === null) return key.owner;
    const canAct = key.is_service && key.owner.role === "admin" && isUuid(onBehalfOf);
    const user = canAct ? await targetUsers.find(onBehalfOf.toLowerCase()) : undefined;
    if (!user) throw new Problem("forbidden", "The API key isn't allowed to act for this user.");
    recordActingForUser(key, user.id, ipAddress);
    return user;
  }

  async function createCaller(key: queries.ValidKey | undefined, origin: RequestOrigin): Promise<Caller | null> {
    // The key may have expired since it was cached.
    const expiresAtMs = key?.expires_at?.getTime() ?? Number.POSITIVE_INFINITY;
    if (!key || expiresAtMs <= Date.now()) return null;
    const user = await findUser(key, origin);
    recordUse(key.id);
    return { user, credentialId: key.id, scopes: new Set(key.scopes), expiresAtMs, ipAddress: origin.ipAddress };
  }

  return {
    looksLikeKey: (token) => token.startsWith(KEY_PREFIX),

    async findCaller(key, origin) {
      return isKey(key) ? createCaller(await keys.find(hashKey(key)), origin) : null;
    },

    async findCallerByKeyId({ keyId, userId }, ipAddress) {
      const key = await queries.findValidKey(database, { id: keyId });
      return createCaller(key, { ipAddress, onBehalfOf: userId === key?.owner.id ? null : userId });
    },

    forgetKey: (hash) => keys.invalidate([hash]),

    forgetUsers() {
      keys.invalidateAll();
      targetUsers.invalidateAll();
    },

    async findRevoked(callers) {
      if (callers.length === 0) return new Set();
      const byHolder = Map.groupBy(callers, (caller) => formatHolder(mapToHolder(caller)));
      const holders = [...byHolder.values()].flatMap(([caller]) => (caller ? [mapToHolder(caller)] : []));
      const revokedHolders = await queries.listRevokedHolders(getPool(), holders);
      return new Set(revokedHolders.flatMap((holder) => byHolder.get(formatHolder(holder)) ?? []));
    },
  };
}

const mapToHolder = ({ credentialId, user }: Caller): queries.KeyHolder => ({ keyId: credentialId, userId: user.id });
const formatHolder = ({ keyId, userId }: queries.KeyHolder): string => `${keyId} ${userId}`;

/** Creates a function that returns true at most once per interval for each name. */
function createNameThrottle(intervalMs: number): (name: string) => boolean {
  // If a name is evicted, the function only returns true for it earlier.
  const recentNames = new BoundedCache<true>({ maxSize: KEYS_CACHED_MAX, ttlMs: intervalMs });
  return (name) => {
    if (recentNames.get(name)) return false;
    recentNames.set(name, true);
    return true;
  };
}
