import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Database, type Sql, withTransaction } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { deleteExpiredKeys } from "../../src/modules/api-keys/queries.ts";
import { deleteOldAuditEvents } from "../../src/modules/audit/queries.ts";
import { deleteExpiredTickets, deleteOldSessions } from "../../src/modules/auth/queries.ts";
import { deleteOldCharges, deleteOldWindows } from "../../src/modules/budgets/queries.ts";
import {
  deleteFinished,
  deleteOldGenerations,
  FINISHED_RETENTION_DAYS,
} from "../../src/modules/generations/retention.ts";
import { createTestDatabase } from "../support/postgres.ts";

/** The number of rows that are kept in each table. */
const RECENT_ROWS = 20_000;
/** The number of rows that are deleted in each table. */
const EXPIRED_ROWS = 20;
/** The maximum number of rows that a sweep reads to find, lock and delete the expired rows. */
const ROWS_READ_MAX = 5 * EXPIRED_ROWS;

let database: Database;
const userId = createId();
const conversationId = createId();

beforeAll(async () => {
  ({ database } = await createTestDatabase());
  await withTransaction(database, async (sql) => {
    await sql`set local session_replication_role = replica`;
    await sql`insert into users (id, email, email_key, display_name) values (${userId}, 'a@b.test', 'a@b.test', 'Anna')`;
    await sql`insert into conversations (id, kind, reply_mode) values (${conversationId}, 'direct', 'never')`;
    const n = sql`generate_series(1, ${RECENT_ROWS + EXPIRED_ROWS}) n`;
    // The age of row n.
    const age = sql`case when n <= ${EXPIRED_ROWS} then interval '1000 days' else interval '1 minute' end`;
    await sql`
      insert into sessions (id, user_id, refresh_key, expires_at)
      select gen_random_uuid(), ${userId}, '\\x00', now() + interval '1 day' - ${age} from ${n}`;
    await sql`
      insert into tickets (hash, session_id, expires_at)
      select decode(md5(n::text), 'hex'), gen_random_uuid(), now() + interval '1 hour' - ${age} from ${n}`;
    await sql`
      insert into api_keys (id, user_id, name, hash, prefix, last_four, scopes, expires_at)
      select gen_random_uuid(), ${userId}, 'k', decode(md5(n::text), 'hex'), 'p', 'l', '{x}', now() + interval '1 hour' - ${age} from ${n}`;
    await sql`insert into audit_events (id, action, at) select gen_random_uuid(), 'x', now() - ${age} from ${n}`;
    await sql`
      insert into budget_windows (scope, scope_id, period, starts_on)
      select 'user', gen_random_uuid(), 'day', (now() - ${age})::date from ${n}`;
    await sql`insert into budget_charges (id, charged_at) select gen_random_uuid(), now() - ${age} from ${n}`;
    await sql`
      insert into generations (conversation_id, id, message_id, message_seq, status, finished_at, created_at)
      select ${conversationId}, gen_random_uuid(), gen_random_uuid(), n, 'finished', now() - ${age}, now() - ${age} from ${n}`;
    await sql`
      insert into generations (conversation_id, id, message_id, message_seq, created_at)
      select ${conversationId}, gen_random_uuid(), gen_random_uuid(), ${2 * RECENT_ROWS} + n, now() - interval '1000 days' from generate_series(1, 50) n`;
  });
  await database`analyze`;
}, 60_000);
afterAll(() => database.end({ timeout: 1 }));

const countRows = async (table: string) => (await database`select 1 from ${database(table)}`).length;

describe("a sweep", () => {
  const sweeps: [string, (sql: Sql) => Promise<unknown>][] = [
    ["sessions", (sql) => deleteOldSessions(sql, 86_400)],
    ["tickets", deleteExpiredTickets],
    ["api_keys", deleteExpiredKeys],
    ["audit_events", (sql) => deleteOldAuditEvents(sql, 365, 1_000)],
    ["budget_windows", (sql) => deleteOldWindows(sql, 400)],
    ["budget_charges", deleteOldCharges],
    ["generations", (sql) => deleteOldGenerations(sql, null)],
  ];

  test.each(sweeps)("of %s reads only the rows that it deletes, with any query plan", async (table, sweep) => {
    for (const mode of ["force_custom_plan", "force_generic_plan"]) {
      const rollback = new Error("rolled back");
      let rowsRead = 0;
      let rowsDeleted = 0;
      await withTransaction(database, async (sql) => {
        const getTableCounts = async () => {
          const [row] = await sql<{ rowsRead: number; rowsDeleted: number }[]>`
            select (seq_tup_read + coalesce(idx_tup_fetch, 0))::int as "rowsRead", n_tup_del::int as "rowsDeleted"
            from pg_stat_xact_user_tables where relname = ${table}`;
          return row ?? { rowsRead: 0, rowsDeleted: 0 };
        };
        await sql`select set_config('plan_cache_mode', ${mode}, true)`;
        const countsBefore = await getTableCounts();
        await sweep(sql);
        const countsAfter = await getTableCounts();
        rowsRead = countsAfter.rowsRead - countsBefore.rowsRead;
        rowsDeleted = countsAfter.rowsDeleted - countsBefore.rowsDeleted;
        throw rollback;
      }).catch((error: unknown) => {
        if (error !== rollback) throw error;
      });
      expect({ table, mode, rowsDeleted }).toEqual({ table, mode, rowsDeleted: EXPIRED_ROWS });
      expect({ table, mode, rowsRead: Math.min(rowsRead, ROWS_READ_MAX) }).toEqual({ table, mode, rowsRead });
    }
  });

  test(`of generations deletes generations that finished more than ${FINISHED_RETENTION_DAYS} days ago, and keeps unfinished generations`, async () => {
    await database`
      insert into generations (conversation_id, id, message_id, message_seq, status, finished_at)
      select ${conversationId}, gen_random_uuid(), gen_random_uuid(), ${4 * RECENT_ROWS} + n, 'finished',
        now() - interval '1 day' * ${FINISHED_RETENTION_DAYS} - interval '1 minute' from generate_series(1, 2500) n`;
    await deleteFinished(database, AbortSignal.timeout(20_000));
    expect(await countRows("generations")).toBe(RECENT_ROWS + 50);
  });
});
