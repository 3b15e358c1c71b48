import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createChanges } from "../../src/db/changes.ts";
import type { Database } from "../../src/db/client.ts";
import { createEventLog } from "../../src/events/log.ts";
import { createJobs, type Jobs } from "../../src/jobs/runner.ts";
import { createId } from "../../src/lib/id.ts";
import { USER_DELETIONS } from "../../src/modules/accounts/deletion.ts";
import { registerAccountJobs } from "../../src/modules/accounts/jobs.ts";
import { createDeletions } from "../../src/modules/accounts/service.ts";
import { createAuditService } from "../../src/modules/audit/service.ts";
import { listMemberships } from "../../src/modules/conversations/departure-queries.ts";
import { createDepartures, createErasureJobs } from "../../src/modules/conversations/service.ts";
import { createMemoryBus } from "../../src/realtime/bus-memory.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
afterAll(() => database.end({ timeout: 1 }));

const bus = createMemoryBus({ log: silentLog });
const createDeletionService = (jobs: Pick<Jobs, "nudge">) => {
  const events = createEventLog({ database, changes: createChanges(database), bus });
  const departures = createDepartures({ database, events });
  return createDeletions({ database, audit: createAuditService(), departures, jobs, onDeleted: () => {} });
};

const instances: { stop(): Promise<void> }[] = [];
/** Starts another instance's deletion job. */
function startInstance() {
  const jobs = createJobs({ database, log: silentLog, instanceId: createId() });
  const deletions = createDeletionService(jobs);
  registerAccountJobs(jobs, { deletions });
  jobs.start();
  const instance = { ...deletions, jobs, stop: () => jobs.stop(Date.now() + 5_000) };
  instances.push(instance);
  return instance;
}

async function createUser(): Promise<string> {
  const id = createId();
  await database`insert into users (id, email, email_key, display_name) values (${id}, ${id}, ${`${id}@x`}, 'Somebody')`;
  return id;
}

/** Creates `sharedCount` conversations with both users as members, and `ownCount` with only the first. */
async function createConversations(
  userId: string,
  otherId: string,
  sharedCount: number,
  ownCount: number,
): Promise<void> {
  await database`
    with created as (
      insert into conversations (id, kind, reply_mode, last_seq)
      select gen_random_uuid(), 'group', 'never', 1 from generate_series(1, ${sharedCount + ownCount}) returning id
    ),
    numbered as (select id, row_number() over () as n from created),
    sent as (
      insert into messages (id, conversation_id, seq, role, author_id, content)
      select gen_random_uuid(), id, 1, 'user', ${userId}, 'text' from created
    ),
    other as (
      insert into members (conversation_id, user_id, role)
      select id, ${otherId}, case when n % 2 = 0 then 'owner' else 'member' end from numbered where n <= ${sharedCount}
    )
    insert into members (conversation_id, user_id, role) select id, ${userId}, 'owner' from created`;
}

const beginDeletion = (userId: string) =>
  database.begin((sql) => createDeletionService({ nudge() {} }).begin(sql, userId));

/** Counts what remains of a user, invalid conversations, and the events that the deletion created. */
async function countRows(userId: string) {
  const [row] = await database`
    select (select count(*)::int from users where id = ${userId}) as users,
      (select count(*)::int from members where user_id = ${userId}) as members,
      (select count(*)::int from conversations c where deleted_at is null
         and not exists (select 1 from members m where m.conversation_id = c.id and m.role = 'owner')) as unowned,
      (select count(*)::int from conversations c
       where c.last_seq <> (select count(*) from events e where e.conversation_id = c.id)
         + (select count(*) from messages x where x.conversation_id = c.id)) as gaps,
      (select count(*)::int from events where type = 'member.removed' and data ->> 'user_id' = ${userId}) as removals,
      (select count(*)::int from conversations c join events e on e.conversation_id = c.id
       where c.deleted_at is not null and e.type = 'conversation.deleted' and e.seq = c.last_seq) as deletions`;
  return row;
}

const nothingLeft = { users: 0, members: 0, unowned: 0, gaps: 0 };

const erase = () => createErasureJobs({ database }).run(new AbortController().signal);
afterEach(async () => {
  await Promise.all(instances.splice(0).map((instance) => instance.stop()));
  await erase();
  const [remaining] = await database`select 1 from conversations where deleted_at is not null`;
  expect(remaining).toBeUndefined();
});

test("a deletion removes 10,000 memberships in batches, without delaying other users", async () => {
  const [deletedId, otherId] = [await createUser(), await createUser()];
  await createConversations(deletedId, otherId, 9_500, 500);
  await beginDeletion(deletedId);
  // Another member keeps writing in one of the conversations.
  const [conversation] = await database`select conversation_id as id from members where user_id = ${otherId} limit 1`;
  let waitMsMax = 0;
  let isDone = false;
  const writer = (async () => {
    while (!isDone) {
      const startedAt = performance.now();
      await database`update conversations set updated_at = now() where id = ${conversation?.id}`;
      waitMsMax = Math.max(waitMsMax, performance.now() - startedAt);
      await Bun.sleep(5);
    }
  })();
  const deletions = startInstance();
  const deadlineMs = Date.now() + 60_000;
  while ((await countRows(deletedId))?.users === 1 && Date.now() < deadlineMs) await deletions.complete(deletedId);
  isDone = true;
  await writer;
  expect(await countRows(deletedId)).toEqual({ ...nothingLeft, removals: 9_500, deletions: 500 });
  expect(waitMsMax).toBeLessThan(2_000);
}, 90_000);

test("a batch is limited to a number of conversations and members, but contains at least one conversation", async () => {
  const [deletedId, otherId] = [await createUser(), await createUser()];
  await createConversations(deletedId, otherId, 6, 0);
  const count = async (conversationsMax: number, membersMax: number) =>
    (await listMemberships(database, deletedId, undefined, { conversationsMax, membersMax })).length;
  expect([await count(10, 100), await count(4, 100), await count(10, 3), await count(10, 1)]).toEqual([6, 4, 2, 1]);
});

describe("a deletion", () => {
  test("is completed by another instance if it is interrupted", async () => {
    const [deletedId, otherId] = [await createUser(), await createUser()];
    await createConversations(deletedId, otherId, 450, 20);
    await beginDeletion(deletedId);
    const first = startInstance();
    const [last] = await database`
      select conversation_id as id from members where user_id = ${deletedId} order by 1 desc limit 1`;
    // Locking this conversation keeps the deletion from completing.
    const interrupted = await database.begin(async (sql) => {
      await sql`select 1 from conversations where id = ${last?.id} for update`;
      first.jobs.nudge(USER_DELETIONS);
      while ((await countRows(deletedId))?.members === 470) await Bun.sleep(1);
      await first.stop();
      return countRows(deletedId);
    });
    expect(interrupted).toMatchObject({ users: 1, gaps: 0, unowned: 0 });
    expect(interrupted?.members).toBeGreaterThan(0);
    expect(interrupted?.members).toBeLessThan(470);
    await startInstance().complete(deletedId);
    expect(await countRows(deletedId)).toEqual({ ...nothingLeft, removals: 450, deletions: 20 });
  }, 30_000);

  test("removes each membership once, even on two concurrent instances", async () => {
    const [deletedId, otherId] = [await createUser(), await createUser()];
    await createConversations(deletedId, otherId, 350, 10);
    await beginDeletion(deletedId);
    await Promise.all([startInstance().complete(deletedId), startInstance().complete(deletedId)]);
    expect(await countRows(deletedId)).toEqual({ ...nothingLeft, removals: 350, deletions: 10 });
  }, 30_000);

  test("deletes conversations whose members are all being deleted at the same time", async () => {
    const [first, second] = [await createUser(), await createUser()];
    await createConversations(first, second, 250, 0);
    await Promise.all([beginDeletion(first), beginDeletion(second)]);
    await Promise.all([startInstance().complete(first), startInstance().complete(second)]);
    expect(await countRows(first)).toMatchObject(nothingLeft);
    expect(await countRows(second)).toMatchObject({ ...nothingLeft, deletions: 250 });
    await erase();
    const remaining = await database`select 1 from messages where author_id in (${first}, ${second})`;
    expect(remaining).toHaveLength(0);
  }, 30_000);

  test("also removes a membership that was added after the deletion began", async () => {
    const [deletedId, otherId] = [await createUser(), await createUser()];
    await createConversations(otherId, otherId, 0, 1);
    const [conversation] = await database`select conversation_id as id from members where user_id = ${otherId}`;
    await beginDeletion(deletedId);
    // The request to add the member checked the user before the deletion began.
    const lateRequest = database.begin(async (sql) => {
      await sql`insert into members (conversation_id, user_id, role) values (${conversation?.id}, ${deletedId}, 'member')`;
      await Bun.sleep(300);
    });
    await Bun.sleep(50);
    await startInstance().complete(deletedId);
    await lateRequest;
    expect(await countRows(deletedId)).toMatchObject({ ...nothingLeft, removals: 1 });
  }, 30_000);
});

test("a locked conversation delays only the user's removal from that conversation", async () => {
  const [deletedId, otherId] = [await createUser(), await createUser()];
  await createConversations(deletedId, otherId, 150, 50);
  await beginDeletion(deletedId);
  const [locked] =
    await database`select conversation_id as id from members where user_id = ${deletedId} order by 1 limit 1`;
  await database.begin(async (sql) => {
    await sql`select 1 from conversations where id = ${locked?.id} for update`;
    // The deletion waits for the locked conversation only for a limited time.
    await startInstance().complete(deletedId);
    expect(await countRows(deletedId)).toMatchObject({ users: 1, members: 1, gaps: 0, unowned: 0 });
  });
  await startInstance().complete(deletedId);
  const remaining = await countRows(deletedId);
  expect(remaining).toMatchObject(nothingLeft);
  expect([remaining?.removals, remaining?.deletions]).toEqual([150, 50]);
}, 30_000);
