import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Database, openDatabase, type Sql } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { type ErasureState, eraseDeletedBatch, markDeleted } from "../../src/modules/conversations/queries.ts";
import { createTestDatabase } from "../support/postgres.ts";

const MESSAGES = 20_000;
const BATCH = 1_000;

let database: Database;
/** Has only one connection, because functions cache their plans per connection. */
let singleConnection: Database;
beforeAll(async () => {
  const test = await createTestDatabase();
  ({ database } = test);
  singleConnection = openDatabase({ target: test.target, poolSize: 1 });
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
async function measure<T>(work: (sql: Sql) => Promise<T>): Promise<{ result: T; read: Map<string, number> }> {
  return singleConnection.begin(async (sql) => {
    const count = async () => {
      const rows = await sql<{ name: string; read: number }[]>`
        select relname as name, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) as read
        from pg_stat_xact_user_tables where relname in ('messages', 'events', 'generations', 'feedback')`;
      return new Map(rows.map(({ name, read }) => [name, read]));
    };
    const before = await count();
    const result = await work(sql);
    const after = await count();
    return { result, read: new Map([...after].map(([name, read]) => [name, read - (before.get(name) ?? 0)])) };
  });
}

/** Deletes and erases a conversation, and returns the maximum number of rows that one transaction read from each table. */
async function remove(id: string): Promise<{ marking: Map<string, number>; erasing: Map<string, number> }> {
  const { read: marking } = await measure((sql) => markDeleted(sql, id, new Date()));
  const erasing = new Map<string, number>();
  let erased: ErasureState | undefined;
  do {
    const { result, read } = await measure((sql) => eraseDeletedBatch(sql, BATCH, erased));
    erased = result;
    for (const [table, rows] of read) erasing.set(table, Math.max(rows, erasing.get(table) ?? 0));
  } while (erased.has_more);
  return { marking, erasing };
}

test("each batch reads only the rows that it erases, even with plans made while the tables were nearly empty", async () => {
  for (let n = 0; n < 10; n += 1) {
    const id = await createConversation(1);
    await database`analyze messages, events, generations, feedback, conversations`;
    await remove(id);
  }
  const { marking, erasing } = await remove(await createConversation(MESSAGES));
  expect([...marking.values()].filter((read) => read > 0)).toEqual([]);
  expect(erasing.size).toBe(4);
  // Each row is read twice: to find it, and to delete it.
  for (const [table, read] of erasing) expect({ table, read: Math.min(read, BATCH * 3) }).toEqual({ table, read });
  expect((await database`select 1 from messages limit 1`).length).toBe(0);
}, 60_000);
