import { afterAll, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { bundledSql, migrate } from "../../src/db/migrate.ts";
import { createId } from "../../src/lib/id.ts";
import * as queries from "../../src/modules/conversations/queries.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

/** The migration that adds counters. */
const COUNTERS_MIGRATION = "0009_quotas.sql";
/** The migration that counts existing rows. */
const COUNTING_MIGRATION = "0015_counts.sql";

const databases: Database[] = [];
afterAll(() => Promise.all(databases.map((database) => database.end({ timeout: 1 }))));

/** Creates a database with the schema of an earlier version. */
async function createOldDatabase(): Promise<Database> {
  const { database } = await createTestDatabase();
  databases.push(database);
  await database`drop schema public cascade`;
  await database`create schema public`;
  const migrations = bundledSql.migrations.filter(({ name }) => name < COUNTERS_MIGRATION);
  await migrate(database, silentLog, { sources: { migrations, functions: [], functionsRevision: 0 } });
  return database;
}

test("the migration counts existing conversations", async () => {
  const database = await createOldDatabase();
  const [annaId, benId, cleoId] = [createId(), createId(), createId()];
  const [groupId, quietGroupId] = [createId(), createId()];
  await database`
    insert into users (id, email, email_key, display_name)
    select id::uuid, id, id, 'Somebody' from unnest(${[annaId, benId, cleoId]}::text[]) id`;
  await database`
    insert into conversations (id, kind, reply_mode, last_seq, updated_at)
    values (${groupId}, 'group', 'never', 100, '2026-01-02'), (${quietGroupId}, 'group', 'never', 1, '2026-01-01')`;
  await database`
    insert into members (conversation_id, user_id, role, last_read_seq)
    values (${groupId}, ${annaId}, 'owner', 20), (${groupId}, ${benId}, 'member', 95), (${quietGroupId}, ${annaId}, 'owner', 0)`;
  // Anna wrote messages 2, 4, … 60, and Ben wrote 62, 64, … 100. Messages 96 and 98 are deleted.
  await database`
    insert into messages (id, conversation_id, seq, role, author_id, content, deleted_at)
    select gen_random_uuid(), ${groupId}, n * 2, 'user', case when n <= 30 then ${annaId}::uuid else ${benId}::uuid end, 'äx',
      case when n in (48, 49) then now() end
    from generate_series(1, 50) n`;
  // Cleo wrote message 5 before she left.
  await database`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    values (gen_random_uuid(), ${groupId}, 5, 'user', ${cleoId}, 'left')`;
  await migrate(database, silentLog);

  const findCounts = async (id: string, userId: string) => {
    const row = await queries.findConversation(database, id, userId);
    return { unread: row?.unread, read: row?.last_read_seq };
  };
  // Anna has read up to her last message. Two of the twenty messages after it are deleted.
  expect(await findCounts(groupId, annaId)).toEqual({ unread: 18, read: 60 });
  expect(await findCounts(groupId, benId)).toEqual({ unread: 0, read: 100 });
  expect(await findCounts(quietGroupId, annaId)).toEqual({ unread: 0, read: 0 });
  const conversations = await queries.listConversations(database, annaId, null, 10);
  expect(conversations.map(({ id }) => id)).toEqual([groupId, quietGroupId]);
  const [row] =
    await database`select written_bytes from members where user_id = ${annaId} and conversation_id = ${groupId}`;
  expect(row).toEqual({ written_bytes: 90 });
  expect([...(await database`select * from former_members`)]).toEqual([
    { conversation_id: groupId, user_id: cleoId, last_read_seq: 5, read_count: 3, written_bytes: 4 },
  ]);
}, 30_000);

test("the counting migration is the last one, because its transaction applies the functions", () => {
  expect(bundledSql.migrations.at(-1)?.name).toBe(COUNTING_MIGRATION);
});

test("large groups are counted quickly, without blocking reads", async () => {
  const database = await createOldDatabase();
  const [messageCount, memberCount] = [20_000, 500];
  const groupIds = [createId(), createId()];
  await database`
    insert into users (id, email, email_key, display_name)
    select lpad(to_hex(n), 32, '0')::uuid, n, n, 'Somebody' from generate_series(1, ${memberCount}) n`;
  await database`
    insert into conversations (id, kind, reply_mode, last_seq)
    select id, 'group', 'never', ${2 * messageCount} from unnest(${groupIds}::uuid[]) id`;
  await database`
    insert into members (conversation_id, user_id, role, last_read_seq)
    select id, lpad(to_hex(n), 32, '0')::uuid, 'member', n * 79
    from unnest(${groupIds}::uuid[]) id, generate_series(1, ${memberCount}) n`;
  // Every second sequence number is a message.
  await database`
    insert into messages (id, conversation_id, seq, role, content)
    select gen_random_uuid(), id, n * 2, 'tool', 'x' from unnest(${groupIds}::uuid[]) id, generate_series(1, ${messageCount}) n`;

  // The migration keeps its locks for 2 s, so that the query below runs while they are held.
  const migrations = bundledSql.migrations.map((migration) =>
    migration.name === COUNTING_MIGRATION
      ? { ...migration, text: `${migration.text}; select pg_sleep(2);` }
      : migration,
  );
  const startedAtMs = performance.now();
  const migrationPromise = migrate(database, silentLog, { sources: { ...bundledSql, migrations } });
  const isCounting = async () =>
    (
      await database`
        select 1 from pg_locks where relation = 'members'::regclass and mode = 'ExclusiveLock' and granted`
    ).length > 0;
  while (!(await isCounting())) await Bun.sleep(20);
  const readRows = await database`
    select 1 from members m join conversations c on c.id = m.conversation_id
    join messages x on x.conversation_id = c.id and x.seq = m.last_read_seq + 1`;
  expect(readRows.length).toBe(memberCount);
  expect(await isCounting()).toBe(true);
  await migrationPromise;
  // Counting one member at a time would take 30 s or more.
  expect(performance.now() - startedAtMs).toBeLessThan(15_000);

  const incorrectRows = await database`
    select m.user_id from members m join conversations c on c.id = m.conversation_id
    where m.read_count <> m.last_read_seq / 2 or c.message_count <> ${messageCount}`;
  expect([...incorrectRows]).toEqual([]);
}, 60_000);
