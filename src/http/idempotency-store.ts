import { createHmac } from "node:crypto";
import { type Database, getReservedPool, type Sql, withTransaction } from "../db/client.ts";
import { claimLease, freeCondition, heldCondition, type LeasedTable, leaseExpiry, renewLeases } from "../db/leases.ts";
import { repeatUntilDone } from "../lib/batches.ts";
import { formatCanonicalJson } from "../lib/canonical-json.ts";
import { createSeal, deriveKey } from "../lib/seal.ts";
import { decodeResponse, encodeResponse, type StoredResponse } from "./stored-response.ts";

/** How long a key is stored after its first use. */
export const IDEMPOTENCY_RETENTION_S = 24 * 60 * 60;
/** Duration of an attempt's lease. If it expires, the attempt counts as abandoned, because its instance has probably failed. */
export const IDEMPOTENCY_LEASE_MS = 30_000;
/** Maximum size of a stored response. If a response is larger, only the request's completion is recorded. */
export const STORED_RESPONSE_BYTES_MAX = 256 * 1024;
/** Maximum duration of an attempt, after which its lease is no longer renewed. */
const ATTEMPT_MS_MAX = 15 * 60_000;
/** Maximum number of rows that one statement deletes. */
export const IDEMPOTENCY_SWEEP_BATCH = 1_000;

/** The fields of a caller that determine the owner of a key. */
export type IdempotencyCaller = { user: { id: string }; credentialId: string; scopes: ReadonlySet<string> | null };

/** The identity of a request with a key. */
export type IdempotentRequest = {
  userId: string;
  name: Buffer;
  fingerprint: Buffer;
  /** Derived from the key and the payload, so that repeated requests have the same operation id. */
  operationId: string;
};

/** The right to execute a request, protected by a lease and a fence. */
export type Claim = { name: Buffer; fence: number; startedAtMs: number };

export type ClaimResult =
  /** This attempt must execute the request. */
  | { state: "claimed"; claim: Claim }
  /** Another attempt is executing the request. */
  | { state: "running" }
  /** The key was used with a different payload. */
  | { state: "reused" }
  /** The request has completed. `response` is null if it wasn't stored. */
  | { state: "ended"; response: StoredResponse | null };

/** Creates the store of idempotency keys, which is in Postgres and shared by all instances. */
export function createIdempotencyStore({
  database,
  jwtSecret,
  instanceId,
}: {
  database: Database;
  jwtSecret: string;
  instanceId: string;
}) {
  const macKey = deriveKey(jwtSecret, "idempotency names");
  const seal = createSeal(deriveKey(jwtSecret, "idempotency answers"));
  /** The claims of the attempts that are running on this instance. */
  const runningClaims = new Set<Claim>();

  const computeMac = (...parts: (string | Uint8Array)[]): Buffer => {
    const hmac = createHmac("sha256", macKey);
    // The lengths ensure that different lists of parts never result in the same bytes.
    for (const part of parts) hmac.update(`${Buffer.byteLength(part)}:`).update(part);
    return hmac.digest();
  };

  function decryptResponse(sealed: Uint8Array | null, name: Buffer): StoredResponse | null {
    const decrypted = sealed && seal.open(sealed, name);
    return decrypted ? decodeResponse(decrypted) : null;
  }

  return {
    /**
     * Returns the identity of a request. An idempotency key is valid only for the same user and, if the request was sent with
     * an API key, only for the same API key. Both matter, because an API key may act for several users.
     */
    createIdentity(
      caller: IdempotencyCaller,
      method: string,
      address: { path: string; query: string },
      key: string,
      body: unknown,
    ): IdempotentRequest {
      const credential = caller.scopes === null ? "" : caller.credentialId;
      const name = computeMac("name", caller.user.id, credential, method, address.path, key);
      const fingerprint = computeMac("payload", name, address.query, formatCanonicalJson(body));
      const operationId = `idempotency-key:${computeMac("operation", name, fingerprint).toString("base64url")}`;
      return { userId: caller.user.id, name, fingerprint, operationId };
    },

    /** Tries to claim a key. A single statement decides between concurrent requests on all instances. */
    async claim(identity: IdempotentRequest): Promise<ClaimResult> {
      const insertClaim = (sql: Sql) => claimKey(sql, identity, instanceId);
      // The statement may have to wait for a lock on the user's row, which the key's row references.
      const [row] = await withTransaction(database, insertClaim, `idempotency:${identity.userId}`);
      // No row is visible if another request is claiming the key at the same time.
      if (row === undefined || row.state === "running") return { state: "running" };
      if (row.state === "reused") return { state: "reused" };
      if (row.state === "ended") return { state: "ended", response: decryptResponse(row.answer, identity.name) };
      const claim = { name: identity.name, fence: row.fence, startedAtMs: performance.now() };
      runningClaims.add(claim);
      return { state: "claimed", claim };
    },

    /** Stores an attempt's response, unless another instance has taken over. @param response null if it can't be stored. */
    async storeResponse(claim: Claim, response: StoredResponse | null): Promise<void> {
      const shouldStore = response !== null && response.body.length <= STORED_RESPONSE_BYTES_MAX;
      const sealedResponse = shouldStore ? seal.seal(encodeResponse(response), claim.name) : null;
      await database`
        update idempotency_keys x set ended_at = now(), answer = ${sealedResponse}
        from ${leased.selectHeldRows(database, [claim])} where ${heldCondition(database, leased, instanceId)}`;
    },

    /** Deletes a failed attempt, so that the next request is executed. */
    async release(claim: Claim): Promise<void> {
      await database`
        delete from idempotency_keys x using ${leased.selectHeldRows(database, [claim])}
        where ${heldCondition(database, leased, instanceId)}`;
    },

    /** Stops renewing an attempt's lease. */
    stopRenewing(claim: Claim): void {
      runningClaims.delete(claim);
    },

    /** Renews the leases of this instance's attempts. Must be called several times per lease duration. */
    async renewAttempts(): Promise<void> {
      const oldestMs = performance.now() - ATTEMPT_MS_MAX;
      for (const claim of runningClaims) if (claim.startedAtMs < oldestMs) runningClaims.delete(claim);
      const times = { leaseMs: IDEMPOTENCY_LEASE_MS, renewBelowMs: IDEMPOTENCY_LEASE_MS };
      if (runningClaims.size > 0)
        await renewLeases(getReservedPool(database), leased, instanceId, [...runningClaims], times);
    },

    /** Deletes expired keys in batches, until none are left or the signal aborts. */
    deleteExpiredKeys: (signal: AbortSignal): Promise<number> =>
      repeatUntilDone(() => deleteExpiredBatch(database), signal),
  };
}

export type IdempotencyStore = ReturnType<typeof createIdempotencyStore>;

const createSecondsInterval = (sql: Sql, seconds: number) => sql`make_interval(secs => ${seconds}::float8)`;

const leased: LeasedTable<Claim> = {
  name: "idempotency_keys",
  key: ["name"],
  selectHeldRows: (sql, held) => sql`(
    select decode(name, 'hex') as name, fence
    from unnest(${held.map(({ name }) => name.toString("hex"))}::text[], ${held.map(({ fence }) => fence)}::int[])
      as named (name, fence)) h`,
  inProgressCondition: (sql) => sql`x.ended_at is null`,
};

type KeyRow = { state: "claimed" | "running" | "reused" | "ended"; fence: number; answer: Uint8Array | null };

async function claimKey(sql: Sql, { name, userId, fingerprint }: IdempotentRequest, owner: string): Promise<KeyRow[]> {
  // An expired row is treated as missing. An abandoned attempt can be taken over only with the same payload.
  return await sql<KeyRow[]>`
    with claimed as (
      insert into idempotency_keys as x (name, user_id, fingerprint, owner, fence, lease_until)
      values (${name}, ${userId}, ${fingerprint}, ${owner}, default, ${leaseExpiry(sql, IDEMPOTENCY_LEASE_MS)})
      on conflict (name) do update set fingerprint = excluded.fingerprint, ${claimLease(sql, owner, IDEMPOTENCY_LEASE_MS)},
        ended_at = null, answer = null, created_at = now()
      where x.created_at < now() - ${createSecondsInterval(sql, IDEMPOTENCY_RETENTION_S)}
        or (x.ended_at is null and ${freeCondition(sql)} and x.fingerprint = excluded.fingerprint)
      returning fence
    )
    select 'claimed' as state, fence, null::bytea as answer from claimed
    union all
    select case when fingerprint <> ${fingerprint} then 'reused' when ended_at is null then 'running' else 'ended' end, fence,
      case when fingerprint = ${fingerprint} then answer end
    from idempotency_keys where name = ${name} and not exists (select from claimed)`;
}

async function deleteExpiredBatch(sql: Sql): Promise<number> {
  // Skips the rows that another instance is deleting.
  const { count } = await sql`
    delete from idempotency_keys where ctid = any (array(
      select ctid from idempotency_keys where created_at < now() - ${createSecondsInterval(sql, IDEMPOTENCY_RETENTION_S)}
      order by created_at limit ${IDEMPOTENCY_SWEEP_BATCH} for update skip locked))`;
  return count;
}
