import { afterAll, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { carried, migrate } from "../../src/db/migrate.ts";
import { createId } from "../../src/lib/id.ts";
import * as queries from "../../src/modules/conversations/queries.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

const COUNTING = "0012_activity.sql";

const open: Database[] = [];
afterAll(() => Promise.all(open.map((one) => one.end({ timeout: 1 }))));

/** As an earlier version has left it. */
async function createOld(): Promise<Database> {
  const { database } = await createTestDatabase();
  open.push(database);
  await database`drop schema public cascade`;
  await database`create schema public`;
  const migrations = carried.migrations.filter(({ name }) => name < COUNTING);
  await migrate(database, silentLog, { sources: { migrations, functions: [], functionsRevision: 0 } });
  return database;
}

test("conversations that were stored before are counted by the migration", async () => {
  const database = await createOld();
  const [anna, ben, group, quiet] = [createId(), createId(), createId(), createId()];
  await database`
    insert into users (id, email, email_key, display_name)
    select id::uuid, id, id, 'Somebody' from unnest(${[anna, ben]}::text[]) id`;
  await database`
    insert into conversations (id, kind, reply_mode, last_seq, updated_at)
    values (${group}, 'group', 'never', 100, '2026-01-02'), (${quiet}, 'group', 'never', 1, '2026-01-01')`;
  await database`
    insert into members (conversation_id, user_id, role, last_read_seq)
    values (${group}, ${anna}, 'owner', 20), (${group}, ${ben}, 'member', 95), (${quiet}, ${anna}, 'owner', 0)`;
  // Anna wrote the numbers 2, 4 … 60, Ben 62 … 100; two of the last ones are deleted.
  await database`
    insert into messages (id, conversation_id, seq, role, author_id, content, deleted_at)
    select gen_random_uuid(), ${group}, n * 2, 'user', case when n <= 30 then ${anna}::uuid else ${ben}::uuid end, 'äx',
      case when n in (48, 49) then now() end
    from generate_series(1, 50) n`;
  await migrate(database, silentLog);

  const found = async (id: string, userId: string) => {
    const row = await queries.findConversation(database, id, userId);
    return { unread: row?.unread, read: row?.last_read_seq };
  };
  // Up to her own last message; of the twenty after it two are deleted.
  expect(await found(group, anna)).toEqual({ unread: 18, read: 60 });
  expect(await found(group, ben)).toEqual({ unread: 0, read: 100 });
  expect(await found(quiet, anna)).toEqual({ unread: 0, read: 0 });
  const list = await queries.listConversations(database, anna, null, 10);
  expect(list.map(({ id }) => id)).toEqual([group, quiet]);
  const [row] =
    await database`select written_bytes from members where user_id = ${anna} and conversation_id = ${group}`;
  expect(row).toEqual({ written_bytes: 90 });
}, 30_000);
