import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Database, type Sql, withTransaction } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { deleteExpiredKeys } from "../../src/modules/api-keys/queries.ts";
import { deleteOldAuditEvents } from "../../src/modules/audit/queries.ts";
import { deleteOldSessions, deleteOldTickets } from "../../src/modules/auth/queries.ts";
import { deleteOldCharges, deleteOldWindows } from "../../src/modules/budgets/queries.ts";
import {
  deleteOldGenerations,
  FINISHED_RETENTION_DAYS,
  forgetFinished,
} from "../../src/modules/generations/retention.ts";
import { createTestDatabase } from "../support/postgres.ts";

/** Rows of each table that are too young to be deleted, and that are old enough. */
const YOUNG = 20_000;
const OLD = 20;
/** How many rows a sweep may touch to delete OLD rows: each is found, locked and deleted. */
const ROWS_TOUCHED_MAX = 5 * OLD;

let database: Database;
const user = createId();
const conversation = createId();

beforeAll(async () => {
  ({ database } = await createTestDatabase());
  await withTransaction(database, async (sql) => {
    await sql`set local session_replication_role = replica`;
    await sql`insert into users (id, email, email_key, display_name) values (${user}, 'a@b.test', 'a@b.test', 'Anna')`;
    await sql`insert into conversations (id, kind, reply_mode) values (${conversation}, 'direct', 'never')`;
    const n = sql`generate_series(1, ${YOUNG + OLD}) n`;
    // Row n, with its time that far in the past; the first OLD of them are expired.
    const ago = sql`case when n <= ${OLD} then interval '1000 days' else interval '1 minute' end`;
    await sql`
      insert into sessions (id, user_id, refresh_key, expires_at)
      select gen_random_uuid(), ${user}, '\\x00', now() + interval '1 day' - ${ago} from ${n}`;
    await sql`
      insert into tickets (hash, session_id, expires_at)
      select decode(md5(n::text), 'hex'), gen_random_uuid(), now() + interval '1 hour' - ${ago} from ${n}`;
    await sql`
      insert into api_keys (id, user_id, name, hash, prefix, last_four, scopes, expires_at)
      select gen_random_uuid(), ${user}, 'k', decode(md5(n::text), 'hex'), 'p', 'l', '{x}', now() + interval '1 hour' - ${ago} from ${n}`;
    await sql`insert into audit_events (id, action, at) select gen_random_uuid(), 'x', now() - ${ago} from ${n}`;
    await sql`
      insert into budget_windows (scope, scope_id, period, starts_on)
      select 'user', gen_random_uuid(), 'day', (now() - ${ago})::date from ${n}`;
    await sql`insert into budget_charges (id, charged_at) select gen_random_uuid(), now() - ${ago} from ${n}`;
    await sql`
      insert into generations (conversation_id, id, message_id, message_seq, status, finished_at, created_at)
      select ${conversation}, gen_random_uuid(), gen_random_uuid(), n, 'finished', now() - ${ago}, now() - ${ago} from ${n}`;
    await sql`
      insert into generations (conversation_id, id, message_id, message_seq, created_at)
      select ${conversation}, gen_random_uuid(), gen_random_uuid(), ${2 * YOUNG} + n, now() - interval '1000 days' from generate_series(1, 50) n`;
  });
  await database`analyze`;
}, 60_000);
afterAll(() => database.end({ timeout: 1 }));

const countLeft = async (table: string) => (await database`select 1 from ${database(table)}`).length;

describe("a sweep", () => {
  const sweeps: [string, (sql: Sql) => Promise<unknown>][] = [
    ["sessions", (sql) => deleteOldSessions(sql, 86_400)],
    ["tickets", deleteOldTickets],
    ["api_keys", deleteExpiredKeys],
    ["audit_events", (sql) => deleteOldAuditEvents(sql, 365, 1_000)],
    ["budget_windows", (sql) => deleteOldWindows(sql, 400)],
    ["budget_charges", deleteOldCharges],
    ["generations", (sql) => deleteOldGenerations(sql, null)],
  ];

  test.each(sweeps)("of %s reads only the rows that it deletes, with any query plan", async (table, sweep) => {
    for (const mode of ["force_custom_plan", "force_generic_plan"]) {
      const undo = new Error("undone");
      let touched = 0;
      let deleted = 0;
      await withTransaction(database, async (sql) => {
        const read = async () => {
          const [row] = await sql<{ touched: number; deleted: number }[]>`
            select (seq_tup_read + coalesce(idx_tup_fetch, 0))::int as touched, n_tup_del::int as deleted
            from pg_stat_xact_user_tables where relname = ${table}`;
          return row ?? { touched: 0, deleted: 0 };
        };
        await sql`select set_config('plan_cache_mode', ${mode}, true)`;
        const before = await read();
        await sweep(sql);
        const after = await read();
        touched = after.touched - before.touched;
        deleted = after.deleted - before.deleted;
        throw undo;
      }).catch((error: unknown) => {
        if (error !== undo) throw error;
      });
      expect({ table, mode, deleted }).toEqual({ table, mode, deleted: OLD });
      expect({ table, mode, touched: Math.min(touched, ROWS_TOUCHED_MAX) }).toEqual({ table, mode, touched });
    }
  });

  test(`of generations deletes those that ended ${FINISHED_RETENTION_DAYS} days ago, in batches, and keeps running ones`, async () => {
    await database`
      insert into generations (conversation_id, id, message_id, message_seq, status, finished_at)
      select ${conversation}, gen_random_uuid(), gen_random_uuid(), ${4 * YOUNG} + n, 'finished',
        now() - interval '1 day' * ${FINISHED_RETENTION_DAYS} - interval '1 minute' from generate_series(1, 2500) n`;
    await forgetFinished(database, AbortSignal.timeout(20_000));
    expect(await countLeft("generations")).toBe(YOUNG + 50);
  });
});
