import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Database, openDatabase, type Sql } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { type ErasureState, eraseDeletedBatch, markDeleted } from "../../src/modules/conversations/queries.ts";
import { createTestDatabase } from "../support/postgres.ts";

const MESSAGE_COUNT = 20_000;
const BATCH_ROWS = 1_000;

let database: Database;
/** A database client with only one connection, because functions cache their plans per connection. */
let singleConnection: Database;
beforeAll(async () => {
  const testDatabase = await createTestDatabase();
  ({ database } = testDatabase);
  singleConnection = openDatabase({ target: testDatabase.target, poolSize: 1 });
  // Otherwise new statistics would invalidate the plans.
  for (const table of ["conversations", "messages", "events", "generations", "feedback"])
    await database.unsafe(`alter table ${table} set (autovacuum_enabled = false)`);
});
afterAll(() => Promise.all([database.end({ timeout: 1 }), singleConnection.end({ timeout: 1 })]));

/** Creates a conversation that has a rating, a generation and an edit for each message. */
async function createConversation(messages: number): Promise<string> {
  const id = createId();
  await database.begin(async (sql) => {
    await sql`set local session_replication_role = replica`;
    await sql`
      insert into conversations (id, kind, reply_mode, last_seq) values (${id}, 'group', 'never', ${messages * 2})`;
    await sql`
      insert into messages (id, conversation_id, seq, role, author_id, content, client_message_id)
      select gen_random_uuid(), ${id}, n, 'user', ${id}, 'x', n::text from generate_series(1, ${messages}) n`;
    await sql`
      insert into generations (conversation_id, id, message_id, message_seq, status, finished_at)
      select ${id}, gen_random_uuid(), id, seq, 'finished', now() from messages where conversation_id = ${id}`;
    await sql`
      insert into feedback (conversation_id, message_seq, user_id, message_id, rating)
      select ${id}, seq, ${id}, id, 1 from messages where conversation_id = ${id}`;
    await sql`
      insert into events (conversation_id, seq, type, at)
      select ${id}, n, 'message.updated', now() from generate_series(${messages + 1}::int, ${messages * 2}::int) n`;
  });
  return id;
}

/** Runs one transaction, and returns the number of rows read from each table. */
async function measureReads<T>(
  query: (sql: Sql) => Promise<T>,
): Promise<{ result: T; readCounts: Map<string, number> }> {
  return singleConnection.begin(async (sql) => {
    const countReads = async () => {
      const rows = await sql<{ name: string; read: number }[]>`
        select relname as name, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) as read
        from pg_stat_xact_user_tables where relname in ('messages', 'events', 'generations', 'feedback')`;
      return new Map(rows.map(({ name, read }) => [name, read]));
    };
    const readsBefore = await countReads();
    const result = await query(sql);
    const readsAfter = await countReads();
    return {
      result,
      readCounts: new Map([...readsAfter].map(([name, read]) => [name, read - (readsBefore.get(name) ?? 0)])),
    };
  });
}

/** Deletes and erases a conversation, and returns the maximum number of rows that one transaction read from each table. */
async function deleteAndErase(
  id: string,
): Promise<{ markingReads: Map<string, number>; erasingReads: Map<string, number> }> {
  const { readCounts: markingReads } = await measureReads((sql) => markDeleted(sql, id, new Date()));
  const erasingReads = new Map<string, number>();
  let state: ErasureState | undefined;
  do {
    const { result, readCounts } = await measureReads((sql) => eraseDeletedBatch(sql, BATCH_ROWS, state));
    state = result;
    for (const [table, rows] of readCounts) erasingReads.set(table, Math.max(rows, erasingReads.get(table) ?? 0));
  } while (state.has_more);
  return { markingReads, erasingReads };
}

test("each batch reads only the rows that it erases, even with plans made while the tables were nearly empty", async () => {
  for (let n = 0; n < 10; n += 1) {
    const id = await createConversation(1);
    await database`analyze messages, events, generations, feedback, conversations`;
    await deleteAndErase(id);
  }
  const { markingReads, erasingReads } = await deleteAndErase(await createConversation(MESSAGE_COUNT));
  expect([...markingReads.values()].filter((read) => read > 0)).toEqual([]);
  expect(erasingReads.size).toBe(4);
  // Each row is read twice, once to find it and once to delete it.
  for (const [table, read] of erasingReads)
    expect({ table, read: Math.min(read, BATCH_ROWS * 3) }).toEqual({ table, read });
  expect((await database`select 1 from messages limit 1`).length).toBe(0);
}, 60_000);
