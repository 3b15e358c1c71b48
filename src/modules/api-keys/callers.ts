import type { Caller, RequestOrigin } from "../../access/caller.ts";
import { BoundedCache } from "../../cache/bounded-cache.ts";
import { createLookupCache } from "../../cache/lookup-cache.ts";
import { type Database, getReservedPool, withTransaction } from "../../db/client.ts";
import type { Log } from "../../lib/log.ts";
import { Problem } from "../../lib/problem.ts";
import { isUuid } from "../../lib/schema.ts";
import type { AuditService } from "../audit/service.ts";
import { hashKey, isKey, KEY_PREFIX } from "./key-format.ts";
import { ACTED_FOR_EVERY_MS, KEY_CACHE_MS, KEYS_CACHED_MAX, LAST_USED_EVERY_MS } from "./limits.ts";
import * as queries from "./queries.ts";

/** Authenticates API keys: the caller is the owner, or the user the key acts for. */
export interface KeyCallers {
  /** Whether a credential looks like an API key; `findCaller` verifies it. */
  looksLikeKey(token: string): boolean;

  /**
   * The caller with this key; null if the key doesn't exist, was deleted or has expired. A wrong checksum is refused
   * without a query.
   * @throws Problem `forbidden` if the key may not act for the requested user.
   */
  findCaller(key: string, origin: RequestOrigin): Promise<Caller | null>;

  /** The caller for a ticket that was issued to a key and a user. @throws Problem `forbidden`. */
  findHolder(holder: queries.KeyHolder, ipAddress: string | null): Promise<Caller | null>;

  /**
   * Of these callers with open connections, the ones that have lost access: the key was deleted, the user or the owner is
   * disabled or deleted, or the key may no longer act for the user. Covers changes by any instance and the command line.
   */
  findEnded(callers: readonly Caller[]): Promise<Set<Caller>>;

  /** Call when a key was deleted on this instance. Takes effect immediately. */
  forgetKey(hash: string): void;

  /** Call when a user's role or status was changed on this instance. Takes effect immediately. */
  forgetUsers(): void;
}

type Dependencies = { database: Database; audit: AuditService; log: Log };

export function createKeyCallers({ database, audit, log }: Dependencies): KeyCallers {
  const reserved = () => getReservedPool(database);
  const cacheOptions = { ttlMs: KEY_CACHE_MS, entriesMax: KEYS_CACHED_MAX };
  const keys = createLookupCache((hash) => queries.findValidKey(reserved(), { hash }), cacheOptions);
  const targets = createLookupCache((userId) => queries.findTarget(reserved(), userId), cacheOptions);
  const isLastUseDue = createThrottle(LAST_USED_EVERY_MS);
  const isRecordDue = createThrottle(ACTED_FOR_EVERY_MS);

  /** Like `recordActing`, writes in the background: if the write fails, the request still succeeds. */
  function touch(keyId: string): void {
    if (!isLastUseDue(keyId)) return;
    const write = withTransaction(database, (sql) => queries.touchKey(sql, keyId));
    write.catch((err) => log.warn({ err }, "recording the last use of an API key failed"));
  }
  function recordActing(key: queries.ValidKey, userId: string, ipAddress: string | null): void {
    if (!isRecordDue(formatHolder({ keyId: key.id, userId }))) return;
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

  /** @throws Problem `forbidden`, the same whether the user exists or not. */
  async function findUser(key: queries.ValidKey, { onBehalfOf, ipAddress }: RequestOrigin): Promise<Caller["user"]> {
    if (onBehalfOf === null) return key.owner;
    const mayAct = key.is_service && key.owner.role === "admin" && isUuid(onBehalfOf);
    const user = mayAct ? await targets.find(onBehalfOf.toLowerCase()) : undefined;
    if (!user) throw new Problem("forbidden", "The API key may not act for this user.");
    recordActing(key, user.id, ipAddress);
    return user;
  }

  async function createCaller(key: queries.ValidKey | undefined, origin: RequestOrigin): Promise<Caller | null> {
    // The key may have expired since it was cached.
    const expiresAtMs = key?.expires_at?.getTime() ?? Number.POSITIVE_INFINITY;
    if (!key || expiresAtMs <= Date.now()) return null;
    const user = await findUser(key, origin);
    touch(key.id);
    return { user, credentialId: key.id, scopes: new Set(key.scopes), expiresAtMs, ipAddress: origin.ipAddress };
  }

  return {
    looksLikeKey: (token) => token.startsWith(KEY_PREFIX),

    async findCaller(key, origin) {
      return isKey(key) ? createCaller(await keys.find(hashKey(key)), origin) : null;
    },

    async findHolder({ keyId, userId }, ipAddress) {
      const key = await queries.findValidKey(database, { id: keyId });
      return createCaller(key, { ipAddress, onBehalfOf: userId === key?.owner.id ? null : userId });
    },

    forgetKey: (hash) => keys.forget([hash]),

    forgetUsers() {
      keys.forgetAll();
      targets.forgetAll();
    },

    async findEnded(callers) {
      if (callers.length === 0) return new Set();
      const byHolder = Map.groupBy(callers, (caller) => formatHolder(mapToHolder(caller)));
      const holders = [...byHolder.values()].flatMap(([caller]) => (caller ? [mapToHolder(caller)] : []));
      const ended = await queries.listEndedHolders(reserved(), holders);
      return new Set(ended.flatMap((holder) => byHolder.get(formatHolder(holder)) ?? []));
    },
  };
}

const mapToHolder = ({ credentialId, user }: Caller): queries.KeyHolder => ({ keyId: credentialId, userId: user.id });
const formatHolder = ({ keyId, userId }: queries.KeyHolder): string => `${keyId} ${userId}`;

/** Returns true for each name at most once per `everyMs`. */
function createThrottle(everyMs: number): (name: string) => boolean {
  // A name that is evicted is only due earlier.
  const recent = new BoundedCache<true>({ max: KEYS_CACHED_MAX, ttlMs: everyMs });
  return (name) => {
    if (recent.get(name)) return false;
    recent.set(name, true);
    return true;
  };
}
