import { createHmac } from "node:crypto";
import { type Database, getReservedPool, type Sql, withTransaction } from "../db/client.ts";
import { isFree, isHeld, type LeasedTable, leaseEnd, renewLeases, takeLease } from "../db/leases.ts";
import { repeatUntilDone } from "../lib/batches.ts";
import { formatCanonicalJson } from "../lib/canonical-json.ts";
import { createSeal, deriveKey } from "../lib/seal.ts";
import { decodeAnswer, encodeAnswer, type StoredAnswer } from "./stored-response.ts";

/** How long a key is kept, from its first use. */
export const IDEMPOTENCY_RETENTION_S = 24 * 60 * 60;
/** An attempt whose lease was not renewed for this long is abandoned: its instance has died. */
export const IDEMPOTENCY_LEASE_MS = 30_000;
/** Larger responses are not stored; only the fact that the request completed is. */
export const STORED_ANSWER_BYTES_MAX = 256 * 1024;
/** After this long, an attempt's lease is no longer renewed. */
const RUN_MS_MAX = 15 * 60_000;
/** Rows that one statement of the sweep deletes. */
export const IDEMPOTENCY_SWEEP_BATCH = 1_000;

/** The fields of the caller that decide who owns a key. */
export type IdempotencyCaller = { user: { id: string }; credentialId: string; scopes: ReadonlySet<string> | null };

/** A request with a key, reduced to what identifies it. */
export type Call = {
  userId: string;
  name: Buffer;
  fingerprint: Buffer;
  /** Identifies the operation permanently: the same for the same key and payload, different for any other. */
  operationId: string;
};

/** The right to execute a request, fenced by its lease. */
export type Claim = { name: Buffer; fence: number; startedAtMs: number };

export type Found =
  /** This caller executes the request. */
  | { state: "claimed"; claim: Claim }
  /** Another attempt is executing it. */
  | { state: "running" }
  /** The key was used with another payload. */
  | { state: "reused" }
  /** It completed; `answer` is null if the response was not stored. */
  | { state: "ended"; answer: StoredAnswer | null };

/** Requests with an idempotency key, stored in Postgres: all instances see them, and they survive restarts. */
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
  /** Attempts that this instance is executing. */
  const running = new Set<Claim>();

  const mac = (...parts: (string | Uint8Array)[]): Buffer => {
    const hmac = createHmac("sha256", macKey);
    // The length before each part prevents different lists of parts from having the same bytes.
    for (const part of parts) hmac.update(`${Buffer.byteLength(part)}:`).update(part);
    return hmac.digest();
  };

  function openAnswer(sealed: Uint8Array | null, name: Buffer): StoredAnswer | null {
    const plain = sealed && seal.open(sealed, name);
    return plain ? decodeAnswer(plain) : null;
  }

  return {
    /**
     * A key belongs to its user. A key sent with an API key belongs to that API key only, because it may act for others.
     * @param address path and query, as sent.
     */
    describe(
      caller: IdempotencyCaller,
      method: string,
      address: { path: string; query: string },
      key: string,
      body: unknown,
    ): Call {
      const credential = caller.scopes === null ? "" : caller.credentialId;
      const name = mac("name", caller.user.id, credential, method, address.path, key);
      const fingerprint = mac("payload", name, address.query, formatCanonicalJson(body));
      const operationId = `idempotency-key:${mac("operation", name, fingerprint).toString("base64url")}`;
      return { userId: caller.user.id, name, fingerprint, operationId };
    },

    /** A single statement arbitrates between concurrent requests on all instances. */
    async claim(call: Call): Promise<Found> {
      const claimIt = (sql: Sql) => claimKey(sql, call, instanceId);
      // The row references the user, whose row may be locked.
      const [row] = await withTransaction(database, claimIt, `idempotency:${call.userId}`);
      // No row is visible yet: another request claimed the key at the same moment.
      if (row === undefined || row.state === "running") return { state: "running" };
      if (row.state === "reused") return { state: "reused" };
      if (row.state === "ended") return { state: "ended", answer: openAnswer(row.answer, call.name) };
      const claim = { name: call.name, fence: row.fence, startedAtMs: performance.now() };
      running.add(claim);
      return { state: "claimed", claim };
    },

    /** Stores the response of an attempt; does nothing if another instance took it over. @param answer null if it can't be stored. */
    async keep(claim: Claim, answer: StoredAnswer | null): Promise<void> {
      const isKept = answer !== null && answer.body.length <= STORED_ANSWER_BYTES_MAX;
      const sealed = isKept ? seal.seal(encodeAnswer(answer), claim.name) : null;
      await database`
        update idempotency_keys x set ended_at = now(), answer = ${sealed}
        from ${leased.listHeld(database, [claim])} where ${isHeld(database, leased, instanceId)}`;
    },

    /** Deletes an attempt without a result, so that the next request executes again. */
    async release(claim: Claim): Promise<void> {
      await database`
        delete from idempotency_keys x using ${leased.listHeld(database, [claim])}
        where ${isHeld(database, leased, instanceId)}`;
    },

    /** Stops tracking an attempt on this instance, whatever its result. */
    forget(claim: Claim): void {
      running.delete(claim);
    },

    /** Renews the leases of this instance's attempts; call it several times per lease. */
    async renew(): Promise<void> {
      const oldestMs = performance.now() - RUN_MS_MAX;
      for (const claim of running) if (claim.startedAtMs < oldestMs) running.delete(claim);
      const times = { leaseMs: IDEMPOTENCY_LEASE_MS, enoughMs: IDEMPOTENCY_LEASE_MS };
      if (running.size > 0) await renewLeases(getReservedPool(database), leased, instanceId, [...running], times);
    },

    /** Deletes expired keys in bounded statements, until none are left or it is aborted. */
    sweep: (signal: AbortSignal): Promise<number> => repeatUntilDone(() => deleteOldKeys(database), signal),
  };
}

export type IdempotencyStore = ReturnType<typeof createIdempotencyStore>;

const inSeconds = (sql: Sql, seconds: number) => sql`make_interval(secs => ${seconds}::float8)`;

const leased: LeasedTable<Claim> = {
  name: "idempotency_keys",
  key: ["name"],
  listHeld: (sql, held) => sql`(
    select decode(name, 'hex') as name, fence
    from unnest(${held.map(({ name }) => name.toString("hex"))}::text[], ${held.map(({ fence }) => fence)}::int[])
      as named (name, fence)) h`,
  isOpen: (sql) => sql`x.ended_at is null`,
};

type KeyRow = { state: "claimed" | "running" | "reused" | "ended"; fence: number; answer: Uint8Array | null };

async function claimKey(sql: Sql, { name, userId, fingerprint }: Call, owner: string): Promise<KeyRow[]> {
  // An expired row that is not yet deleted counts as absent; an abandoned attempt is taken over only by the same payload.
  return await sql<KeyRow[]>`
    with claimed as (
      insert into idempotency_keys as x (name, user_id, fingerprint, owner, fence, lease_until)
      values (${name}, ${userId}, ${fingerprint}, ${owner}, default, ${leaseEnd(sql, IDEMPOTENCY_LEASE_MS)})
      on conflict (name) do update set fingerprint = excluded.fingerprint, ${takeLease(sql, owner, IDEMPOTENCY_LEASE_MS)},
        ended_at = null, answer = null, created_at = now()
      where x.created_at < now() - ${inSeconds(sql, IDEMPOTENCY_RETENTION_S)}
        or (x.ended_at is null and ${isFree(sql)} and x.fingerprint = excluded.fingerprint)
      returning fence
    )
    select 'claimed' as state, fence, null::bytea as answer from claimed
    union all
    select case when fingerprint <> ${fingerprint} then 'reused' when ended_at is null then 'running' else 'ended' end, fence,
      case when fingerprint = ${fingerprint} then answer end
    from idempotency_keys where name = ${name} and not exists (select from claimed)`;
}

async function deleteOldKeys(sql: Sql): Promise<number> {
  // Skips locked rows: another instance is deleting them.
  const { count } = await sql`
    delete from idempotency_keys where ctid = any (array(
      select ctid from idempotency_keys where created_at < now() - ${inSeconds(sql, IDEMPOTENCY_RETENTION_S)}
      order by created_at limit ${IDEMPOTENCY_SWEEP_BATCH} for update skip locked))`;
  return count;
}
