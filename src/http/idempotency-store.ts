import { createHmac } from "node:crypto";
import { type Database, getReservedPool, type Sql, withTransaction } from "../db/client.ts";
import { isFree, isHeld, type LeasedTable, leaseEnd, renewLeases, takeLease } from "../db/leases.ts";
import { repeatUntilDone } from "../lib/batches.ts";
import { formatCanonicalJson } from "../lib/canonical-json.ts";
import { createSeal, deriveKey } from "../lib/seal.ts";
import { decodeAnswer, encodeAnswer, type StoredAnswer } from "./stored-answer.ts";

/** How long a key is known, from its first use. */
export const IDEMPOTENCY_KEPT_S = 24 * 60 * 60;
/** A run that has not been renewed for so long is lost: its instance has died. */
export const IDEMPOTENCY_LEASE_MS = 30_000;
/** A larger answer is not kept; that it was given is. */
export const STORED_ANSWER_BYTES_MAX = 256 * 1024;
/** A run that lasts longer is not renewed any more, whatever it is doing. */
const RUN_MS_MAX = 15 * 60_000;
/** Rows that one statement of the sweep deletes. */
export const IDEMPOTENCY_SWEEP_BATCH = 1_000;

/** Of the caller, what says whose a key is. */
export type IdempotencyCaller = { user: { id: string }; credentialId: string; scopes: ReadonlySet<string> | null };

/** A request with a key, by what decides whether two are the same. */
export type Call = {
  userId: string;
  name: Buffer;
  fingerprint: Buffer;
  /** Names the operation for ever: the same for the same key and payload, and for no other. */
  operationId: string;
};

/** The right to run a request, under the fence of its lease. */
export type Claim = { name: Buffer; fence: number; startedAtMs: number };

export type Found =
  /** It is the caller's to run. */
  | { state: "claimed"; claim: Claim }
  /** Somebody else runs it now. */
  | { state: "running" }
  /** The key was used with another payload. */
  | { state: "reused" }
  /** It was done; null where the answer was not kept. */
  | { state: "ended"; answer: StoredAnswer | null };

/** The requests that were made under a key, in Postgres: so they are known to all instances, and survive them. */
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
  /** What this instance runs now. */
  const running = new Set<Claim>();

  const mac = (...parts: (string | Uint8Array)[]): Buffer => {
    const hmac = createHmac("sha256", macKey);
    // A length before each part, so that no two lists of parts are the same bytes.
    for (const part of parts) hmac.update(`${Buffer.byteLength(part)}:`).update(part);
    return hmac.digest();
  };

  function openAnswer(sealed: Uint8Array | null, name: Buffer): StoredAnswer | null {
    const plain = sealed && seal.open(sealed, name);
    return plain ? decodeAnswer(plain) : null;
  }

  return {
    /**
     * A key belongs to a user; one that an API key sends belongs to that API key alone, since it may act for others.
     * @param address path and query, as they were sent.
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

    /** One statement, which decides between any number of requests at once, on any instance. */
    async claim(call: Call): Promise<Found> {
      const claimIt = (sql: Sql) => claimKey(sql, call, instanceId);
      // It refers to the user, whose row may be locked.
      const [row] = await withTransaction(database, claimIt, `idempotency:${call.userId}`);
      // Not yet to be seen: somebody claimed it at the same moment.
      if (row === undefined || row.state === "running") return { state: "running" };
      if (row.state === "reused") return { state: "reused" };
      if (row.state === "ended") return { state: "ended", answer: openAnswer(row.answer, call.name) };
      const claim = { name: call.name, fence: row.fence, startedAtMs: performance.now() };
      running.add(claim);
      return { state: "claimed", claim };
    },

    /** Keeps the answer of a run. Without effect when the run was taken over. @param answer null: it cannot be kept. */
    async keep(claim: Claim, answer: StoredAnswer | null): Promise<void> {
      const isKept = answer !== null && answer.body.length <= STORED_ANSWER_BYTES_MAX;
      const sealed = isKept ? seal.seal(encodeAnswer(answer), claim.name) : null;
      await database`
        update idempotency_keys x set ended_at = now(), answer = ${sealed}
        from ${leased.listHeld(database, [claim])} where ${isHeld(database, leased, instanceId)}`;
    },

    /** Forgets a run that had no result, so that the next request runs again. */
    async release(claim: Claim): Promise<void> {
      await database`
        delete from idempotency_keys x using ${leased.listHeld(database, [claim])}
        where ${isHeld(database, leased, instanceId)}`;
    },

    /** This instance runs it no longer, whatever became of it. */
    forget(claim: Claim): void {
      running.delete(claim);
    },

    /** Renews what this instance runs; call it several times within a lease. */
    async renew(): Promise<void> {
      const oldestMs = performance.now() - RUN_MS_MAX;
      for (const claim of running) if (claim.startedAtMs < oldestMs) running.delete(claim);
      const times = { leaseMs: IDEMPOTENCY_LEASE_MS, enoughMs: IDEMPOTENCY_LEASE_MS };
      if (running.size > 0) await renewLeases(getReservedPool(database), leased, instanceId, [...running], times);
    },

    /** Deletes what is too old, in bounded statements, until nothing is left or it is stopped. */
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
  // A row that is too old and not yet swept is none; a lost run is taken over by the same payload alone.
  return await sql<KeyRow[]>`
    with claimed as (
      insert into idempotency_keys as x (name, user_id, fingerprint, owner, fence, lease_until)
      values (${name}, ${userId}, ${fingerprint}, ${owner}, default, ${leaseEnd(sql, IDEMPOTENCY_LEASE_MS)})
      on conflict (name) do update set fingerprint = excluded.fingerprint, ${takeLease(sql, owner, IDEMPOTENCY_LEASE_MS)},
        ended_at = null, answer = null, created_at = now()
      where x.created_at < now() - ${inSeconds(sql, IDEMPOTENCY_KEPT_S)}
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
  // Skipping what is locked: the sweep of another instance is at it.
  const { count } = await sql`
    delete from idempotency_keys where ctid = any (array(
      select ctid from idempotency_keys where created_at < now() - ${inSeconds(sql, IDEMPOTENCY_KEPT_S)}
      order by created_at limit ${IDEMPOTENCY_SWEEP_BATCH} for update skip locked))`;
  return count;
}
