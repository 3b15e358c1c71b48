import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createChanges } from "../../src/db/changes.ts";
import type { Database } from "../../src/db/client.ts";
import { createEventLog } from "../../src/events/log.ts";
import { createId } from "../../src/lib/id.ts";
import { createDeletions } from "../../src/modules/accounts/service.ts";
import { createAuditService } from "../../src/modules/audit/service.ts";
import { eraseConversation } from "../../src/modules/conversations/departure-queries.ts";
import { createDepartures } from "../../src/modules/conversations/service.ts";
import { createHub } from "../../src/realtime/hub.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
afterAll(() => database.end({ timeout: 1 }));

const hub = createHub({ loadEvents: async () => [], listSnapshots: () => [], log: silentLog, onPushed: () => {} });
const createInstance = (sql = database) => {
  const departures = createDepartures({
    database: sql,
    events: createEventLog({ database: sql, changes: createChanges(sql), hub }),
  });
  return createDeletions({ database: sql, audit: createAuditService(), departures, log: silentLog });
};

async function createUser(): Promise<string> {
  const id = createId();
  await database`insert into users (id, email, email_key, display_name) values (${id}, ${id}, ${`${id}@x`}, 'Somebody')`;
  return id;
}

/** Conversations of two, `others` of them owned by the second, and some of the first alone. */
async function createConversations(userId: string, otherId: string, shared: number, own: number): Promise<void> {
  await database`
    with made as (
      insert into conversations (id, kind, reply_mode, last_seq)
      select gen_random_uuid(), 'group', 'never', 1 from generate_series(1, ${shared + own}) returning id
    ),
    numbered as (select id, row_number() over () as n from made),
    said as (
      insert into messages (id, conversation_id, seq, role, author_id, content)
      select gen_random_uuid(), id, 1, 'user', ${userId}, 'text' from made
    ),
    other as (
      insert into members (conversation_id, user_id, role)
      select id, ${otherId}, case when n % 2 = 0 then 'owner' else 'member' end from numbered where n <= ${shared}
    )
    insert into members (conversation_id, user_id, role) select id, ${userId}, 'owner' from made`;
}

const begin = (userId: string) => database.begin((sql) => createInstance().begin(sql, userId));

/** What is left of a user, and whether the numbers of what is left of the conversations are whole. */
async function inspect(userId: string) {
  const [row] = await database`
    select (select count(*)::int from users where id = ${userId}) as users,
      (select count(*)::int from members where user_id = ${userId}) as members,
      (select count(*)::int from conversations c
       where not exists (select 1 from members m where m.conversation_id = c.id)) as deserted,
      (select count(*)::int from conversations c
       where not exists (select 1 from members m where m.conversation_id = c.id and m.role = 'owner')) as unowned,
      (select count(*)::int from conversations c
       where c.last_seq <> (select count(*) from events e where e.conversation_id = c.id)
         + (select count(*) from messages x where x.conversation_id = c.id)) as gaps,
      (select count(*)::int from events where type = 'member.removed' and data ->> 'user_id' = ${userId}) as removals`;
  return row;
}

const done = { users: 0, members: 0, deserted: 0, unowned: 0, gaps: 0 };

test("10,000 memberships go in steps, each without holding others up", async () => {
  const [gone, stays] = [await createUser(), await createUser()];
  await createConversations(gone, stays, 9_500, 500);
  await begin(gone);
  // Somebody who writes in one of them the whole time.
  const [chat] = await database`select conversation_id as id from members where user_id = ${stays} limit 1`;
  let waitedMs = 0;
  let isDone = false;
  const writer = (async () => {
    while (!isDone) {
      const startedAt = performance.now();
      await database`update conversations set updated_at = now() where id = ${chat?.id}`;
      waitedMs = Math.max(waitedMs, performance.now() - startedAt);
      await Bun.sleep(5);
    }
  })();
  const deletions = createInstance();
  const deadlineMs = Date.now() + 60_000;
  while ((await inspect(gone))?.users === 1 && Date.now() < deadlineMs) await deletions.complete(gone);
  isDone = true;
  await writer;
  expect(await inspect(gone)).toEqual({ ...done, removals: 9_500 });
  expect(waitedMs).toBeLessThan(2_000);
}, 90_000);

describe("a deletion that is interrupted", () => {
  test("is gone on with by any instance, and leaves nothing half done", async () => {
    const [gone, stays] = [await createUser(), await createUser()];
    await createConversations(gone, stays, 450, 20);
    await begin(gone);
    const first = createInstance();
    const running = first.complete(gone);
    await first.stop();
    await running;
    const between = await inspect(gone);
    expect(between).toMatchObject({ users: 1, gaps: 0, deserted: 0, unowned: 0 });
    expect(between?.members).toBeGreaterThan(0);
    expect(between?.members).toBeLessThan(470);

    const second = createInstance();
    // Somebody may still be at it.
    await second.resume();
    await Bun.sleep(200);
    expect(await inspect(gone)).toEqual(between);
    await database`update users set deleting_at = now() - interval '1 min' where id = ${gone}`;
    await second.resume();
    await second.complete(gone);
    expect(await inspect(gone)).toEqual({ ...done, removals: 450 });
  }, 30_000);

  test("two instances at once do it once", async () => {
    const [gone, stays] = [await createUser(), await createUser()];
    await createConversations(gone, stays, 350, 10);
    await begin(gone);
    await Promise.all([createInstance().complete(gone), createInstance().complete(gone)]);
    expect(await inspect(gone)).toEqual({ ...done, removals: 350 });
  }, 30_000);

  test("several who share all their conversations can go at once; the last one takes them along", async () => {
    const [first, second] = [await createUser(), await createUser()];
    await createConversations(first, second, 250, 0);
    await Promise.all([begin(first), begin(second)]);
    await Promise.all([createInstance().complete(first), createInstance().complete(second)]);
    expect(await inspect(first)).toMatchObject(done);
    expect(await inspect(second)).toMatchObject(done);
    const left = await database`select 1 from messages where author_id in (${first}, ${second})`;
    expect(left).toHaveLength(0);
  }, 30_000);

  test("somebody who is added at the last moment is removed again, with an event", async () => {
    const [gone, stays] = [await createUser(), await createUser()];
    await createConversations(stays, stays, 0, 1);
    const [conversation] = await database`select conversation_id as id from members where user_id = ${stays}`;
    await begin(gone);
    // A request that had looked before the deletion began.
    const adding = database.begin(async (sql) => {
      await sql`insert into members (conversation_id, user_id, role) values (${conversation?.id}, ${gone}, 'member')`;
      await Bun.sleep(300);
    });
    await Bun.sleep(50);
    await createInstance().complete(gone);
    await adding;
    expect(await inspect(gone)).toMatchObject({ ...done, removals: 1 });
  }, 30_000);
});

test("a conversation that is gone already is nothing to erase", async () => {
  const erased = await eraseConversation(database, await createUser(), createId(), 10);
  expect(erased).toMatchObject({ is_shared: false, is_erased: false });
});
