import type { Caller } from "../../access/caller.ts";
import { requireScope, type Scope } from "../../access/scopes.ts";
import { type Database, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import { createId } from "../../lib/id.ts";
import type { Log } from "../../lib/log.ts";
import { createInvalidProblem, Problem } from "../../lib/problem.ts";
import type { AuditService } from "../audit/service.ts";
import type { QuotaService } from "../quotas/service.ts";
import { createKeyAuthenticator, type KeyAuthenticator } from "./callers.ts";
import { createKey, extractVisibleParts, hashKey } from "./key-format.ts";
import type { ApiKey, CreateApiKey, CreatedApiKey } from "./model.ts";
import * as queries from "./queries.ts";

export { mapToApiKey } from "./queries.ts";

/** Manages API keys. A program with a key makes requests as the key's owner, or as a user that the key may act for. */
export interface ApiKeyService extends Omit<KeyAuthenticator, "forgetKey"> {
  /** Returns one of the caller's own keys. @throws Problem `not_found`. */
  get(caller: Caller, id: string): Promise<ApiKey>;

  /**
   * Creates a key for the caller. A key can't create keys with more scopes or a later expiry than its own. While it acts for another user,
   * it can't create any keys. Only administrators may create service keys and keys with the scope `admin`.
   * @throws Problem `invalid`, `forbidden`, `quota_exceeded`.
   */
  create(caller: Caller, input: CreateApiKey): Promise<CreatedApiKey>;

  /**
   * Creates a key on the command line.
   * @param emailKey the owner's email address in lower case. If null, the owner is the first administrator.
   * @throws Problem `not_found` (no such user, or no administrator), `invalid`, `forbidden`, `quota_exceeded`.
   */
  createForOperator(emailKey: string | null, input: CreateApiKey): Promise<CreatedApiKey>;

  /** Lists the caller's own keys, newest first. Returns one key more than `limit` if there are more. */
  list(caller: Caller, beforeId: string | null, limit: number): Promise<queries.ApiKeyRow[]>;

  /** Revokes one of the caller's own keys and closes its connections. @throws Problem `not_found`. */
  remove(caller: Caller, id: string): Promise<void>;

  /**
   * Deletes all of the caller's keys. Call it in a transaction that has locked the user. After the commit, call `announceDeletedKeys` with
   * the result.
   */
  removeAll(sql: Sql, caller: Caller): Promise<queries.DeletedKey[]>;

  /** Revokes deleted keys on this instance and closes their connections. Call it after the commit. */
  announceDeletedKeys(keys: queries.DeletedKey[]): void;

  /** Counts a user's valid keys. */
  countActive(sql: Sql, userId: string): Promise<number>;

  /** Deletes a batch of keys that expired long ago. Called by a job. @returns how many were deleted. */
  deleteExpired(): Promise<number>;
}

type Dependencies = {
  database: Database;
  audit: AuditService;
  quotas: Pick<QuotaService, "requireBelowLimit">;
  log: Log;
  /** Called after keys were deleted on this instance, to close their connections. */
  onKeysDeleted(keyIds: string[]): void;
};

export function createApiKeyService({ database, audit, quotas, log, onKeysDeleted }: Dependencies): ApiKeyService {
  const { forgetKey, ...authenticator } = createKeyAuthenticator({ database, audit, log });

  /** Creates a key in a transaction. @param actor the caller who creates the key. Null means the operator, on the command line. */
  async function createKeyForOwner(
    sql: Sql,
    ownerId: string,
    input: CreateApiKey,
    actor: Caller | null,
  ): Promise<CreatedApiKey> {
    const name = parseName(input.name);
    const expiresAt = parseExpiry(input.expires_at ?? null);
    const scopes = [...new Set(input.scopes)];
    const isService = input.service ?? false;
    const owner = requireRow(await queries.lockOwner(sql, ownerId), "user");
    if (owner.is_disabled) throw new Problem("forbidden", "A disabled user cannot have keys.");
    if (owner.role !== "admin") checkNonAdminKey(scopes, isService);
    quotas.requireBelowLimit("api_keys", owner.keys);
    const key = createKey();
    const id = createId();
    const visibleParts = extractVisibleParts(key);
    const row = await queries.insertKey(sql, {
      ...{ id, userId: ownerId, name, scopes, isService, expiresAt },
      ...{ hash: hashKey(key), ...visibleParts },
    });
    await audit.record(sql, {
      action: "api_key.created",
      actorId: actor?.user.id ?? null,
      credentialId: actor?.credentialId ?? null,
      target: { type: "api_key", id },
      ipAddress: actor?.ipAddress ?? null,
      details: { owner_id: ownerId, scopes: scopes.join(" "), service: isService },
    });
    return { ...queries.mapToApiKey(row), key };
  }

  async function get(caller: Caller, id: string): Promise<ApiKey> {
    return queries.mapToApiKey(requireRow(await queries.findKey(database, id, caller.user.id), "API key"));
  }

  return {
    ...authenticator,

    get,

    async create(caller, input) {
      for (const scope of input.scopes) requireScope(caller.scopes, scope);
      if (caller.scopes !== null)
        checkNotMorePowerful(await get(caller, caller.credentialId).catch(rejectActingKey), input);
      const ownerId = caller.user.id;
      return withTransaction(database, (sql) => createKeyForOwner(sql, ownerId, input, caller), `user:${ownerId}`);
    },

    async createForOperator(emailKey, input) {
      return withTransaction(database, async (sql) => {
        const ownerId = requireRow(await queries.findOwnerId(sql, emailKey), "user");
        return createKeyForOwner(sql, ownerId, input, null);
      });
    },

    list: (caller, beforeId, limit) => queries.listKeys(database, caller.user.id, beforeId, limit + 1),

    async remove(caller, id) {
      const remove = async (sql: Sql) => {
        const hash = requireRow(await queries.deleteKey(sql, id, caller.user.id), "API key");
        const { user, credentialId, ipAddress } = caller;
        const target = { type: "api_key", id } as const;
        await audit.record(sql, { action: "api_key.deleted", actorId: user.id, credentialId, target, ipAddress });
        return hash;
      };
      const hash = await withTransaction(database, remove, `user:${caller.user.id}`);
      forgetKey(hash);
      onKeysDeleted([id]);
    },

    async removeAll(sql, caller) {
      const { user, credentialId, ipAddress } = caller;
      const keys = await queries.deleteKeys(sql, user.id);
      const target = { type: "user", id: user.id } as const;
      const entry = { action: "api_key.deleted", actorId: user.id, credentialId, target, ipAddress } as const;
      if (keys.length > 0) await audit.record(sql, { ...entry, details: { keys: keys.length } });
      return keys;
    },

    announceDeletedKeys(keys) {
      if (keys.length === 0) return;
      for (const { hash } of keys) forgetKey(hash);
      onKeysDeleted(keys.map(({ id }) => id));
    },

    countActive: queries.countActiveKeys,

    deleteExpired: () => queries.deleteExpiredKeys(database),
  };
}

function checkNonAdminKey(scopes: readonly Scope[], isService: boolean): void {
  if (scopes.includes("admin"))
    throw new Problem("forbidden", "Only administrators may create keys with the scope admin.");
  if (isService) throw new Problem("forbidden", "Only administrators may create service keys.");
}

/**
 * Checks that a key doesn't create a more powerful key. Otherwise, an attacker could use a stolen key that expires soon to create a key that
 * never expires.
 * @throws Problem `forbidden`.
 */
function checkNotMorePowerful(actingKey: ApiKey, { service, expires_at: expiresAt = null }: CreateApiKey): void {
  if (service && !actingKey.service) throw new Problem("forbidden", "Only a service key may create service keys.");
  if (actingKey.expires_at !== null && (expiresAt === null || new Date(expiresAt) > new Date(actingKey.expires_at)))
    throw new Problem(
      "forbidden",
      "A key can't create a key that expires later than itself. Set an earlier `expires_at`.",
    );
}

function rejectActingKey(error: unknown): never {
  if (!(error instanceof Problem)) throw error;
  throw new Problem("forbidden", "A key can't create keys for a user it acts for.");
}

function parseName(input: string): string {
  const name = input.trim();
  if (name === "") throw createInvalidProblem("#/name", "name must not be empty.");
  return name;
}

function parseExpiry(input: string | null): Date | null {
  if (input === null) return null;
  const expiresAt = new Date(input);
  if (expiresAt.getTime() <= Date.now())
    throw createInvalidProblem("#/expires_at", "expires_at must be a time in the future.");
  return expiresAt;
}
