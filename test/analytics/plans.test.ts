import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Database, Sql } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import * as queries from "../../src/modules/analytics/queries.ts";
import { createTestDatabase } from "../support/postgres.ts";

const MESSAGES = 20_000;
/** The number of messages in the counted hour. */
const COUNTED_MESSAGES = 60;
/** The number of users who write messages each day. */
const WRITERS = 400;

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase());
  const conversation = createId();
  await database`insert into conversations (id, kind, reply_mode) values (${conversation}, 'group', 'never')`;
  await database`
    insert into messages (conversation_id, seq, id, role, author_id, content, parent_id, created_at)
    select ${conversation}, n, gen_random_uuid(), case when n % 5 = 0 then 'assistant' else 'user' end,
      case when n % 5 > 0 then ('00000000-0000-0000-0000-' || lpad((n % ${WRITERS + WRITERS / 4} + 1)::text, 12, '0'))::uuid end, '', gen_random_uuid(),
      '2026-01-01T00:00:00Z'::timestamptz + n * interval '1 minute'
    from generate_series(1, ${MESSAGES}) n`;
});
afterAll(() => database.end({ timeout: 1 }));

test.each(["before the table is analyzed", "after the table is analyzed"])(
  "counting an hour reads only that hour's messages, %s",
  async (when) => {
    if (when === "after the table is analyzed") await database`analyze messages, conversations`;
    const rowsRead = await database.begin(async (sql) => {
      const [countedRow] = await sql<{ count: number }[]>`
      select count(*)::int from list_analytics_facts(array['2026-01-05T00:00:00Z'::timestamptz], array['2026-01-05T01:00:00Z'::timestamptz])`;
      expect(countedRow?.count).toBe(COUNTED_MESSAGES);
      const [row] = await sql<{ rows: number }[]>`
      select (coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0))::int as rows from pg_stat_xact_user_tables
      where relname = 'messages'`;
      return row?.rows ?? 0;
    });
    expect(rowsRead).toBeGreaterThanOrEqual(COUNTED_MESSAGES);
    expect(rowsRead).toBeLessThan(4 * COUNTED_MESSAGES);
  },
);

test("days in other time zones are counted without reading the user sets of 15-minute slots", async () => {
  await refreshAll();
  const starts = Array.from({ length: 9 }, (_, n) => new Date(Date.parse("2026-01-02T18:30:00Z") + n * 86_400_000));
  const [from, to] = [starts[0] as Date, starts[8] as Date];
  await database.begin(async (sql) => {
    const readsBefore = await countReads(sql);
    const rows = await sql<{ part: number; users: number; conversations: number }[]>`
      select part, users::int, conversations::int
      from list_analytics_actives(${from}, ${to}, now(), false, ${starts.map((at) => at.toISOString())}::timestamptz[])
      order by part`;
    expect(rows).toHaveLength(8);
    for (const { users, conversations } of rows) expect([users, conversations]).toEqual([WRITERS, 1]);
    expect((await countReads(sql)) - readsBefore).toBe(0);
  });
});

async function refreshAll(): Promise<void> {
  while (await queries.countBatch(database, MESSAGES)) {}
  while (await queries.rollUpDay(database)) {}
}

async function countReads(sql: Sql): Promise<number> {
  const [row] = await sql<{ rows: number }[]>`
    select (coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0))::int as rows from pg_stat_xact_user_tables
    where relname = 'analytics_slot_actives'`;
  return row?.rows ?? 0;
}
