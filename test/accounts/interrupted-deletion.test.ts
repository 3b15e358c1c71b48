import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createChangeRunner } from "../../src/db/changes.ts";
import type { Database } from "../../src/db/client.ts";
import { createEventLog } from "../../src/events/log.ts";
import { createJobRunner, type Jobs } from "../../src/jobs/runner.ts";
import { createId } from "../../src/lib/id.ts";
import { USER_DELETIONS } from "../../src/modules/accounts/deletion.ts";
import { registerAccountJobs } from "../../src/modules/accounts/jobs.ts";
import { createDeletionService } from "../../src/modules/accounts/service.ts";
import { createAuditService } from "../../src/modules/audit/service.ts";
import { listMemberships } from "../../src/modules/conversations/departure-queries.ts";
import { createDepartureService, createErasureJobs } from "../../src/modules/conversations/service.ts";
import { createMemoryBus } from "../../src/realtime/bus-memory.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
afterAll(() => database.end({ timeout: 1 }));

const bus = createMemoryBus({ log: silentLog });
const createTestService = (jobs: Pick<Jobs, "nudge">) => {
  const events = createEventLog({ database, changes: createChangeRunner(database), bus });
  const departures = createDepartureService({ database, events });
  return createDeletionService({ database, audit: createAuditService(), departures, jobs, onDeleted: () => {} });
};

const instances: { stop(): Promise<void> }[] = [];
/** Starts the deletion job of another instance. */
function startInstance() {
  const jobs = createJobRunner({ database, log: silentLog, instanceId: createId() });
  const deletions = createTestService(jobs);
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

/** Creates `sharedCount` conversations with both users as members, and `ownCount` with only `userId` as a member. */
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

const beginDeletion = (userId: string) => database.begin((sql) => createTestService({ nudge() {} }).begin(sql, userId));

/** Counts a user's remaining rows, the invalid conversations, and the events that the deletion created. */
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

const nothingRemains = { users: 0, members: 0, unowned: 0, gaps: 0 };

const runErasureJobs = () => createErasureJobs({ database }).run(new AbortController().signal);
afterEach(async () => {
  await Promise.all(instances.splice(0).map((instance) => instance.stop()));
  await runErasureJobs();
  const [remainingConversation] = await database`select 1 from conversations where deleted_at is not null`;
  expect(remainingConversation).toBeUndefined();
});

test("a deletion removes 10,000 memberships in batches, without delaying other users", async () => {
  const [deletedId, otherId] = [await createUser(), await createUser()];
  await createConversations(deletedId, otherId, 9_500, 500);
  await beginDeletion(deletedId);
  // Another member keeps writing in one of the conversations.
  const [conversation] = await database`select conversation_id as id from members where user_id = ${otherId} limit 1`;
  let waitMsMax = 0;
  let isDone = false;
  const writerTask = (async () => {
    while (!isDone) {
      const startedAtMs = performance.now();
      await database`update conversations set updated_at = now() where id = ${conversation?.id}`;
      waitMsMax = Math.max(waitMsMax, performance.now() - startedAtMs);
      await Bun.sleep(5);
    }
  })();
  const deletions = startInstance();
  const deadlineMs = Date.now() + 60_000;
  while ((await countRows(deletedId))?.users === 1 && Date.now() < deadlineMs)
    await deletions.waitForCompletion(deletedId);
  isDone = true;
  await writerTask;
  expect(await countRows(deletedId)).toEqual({ ...nothingRemains, removals: 9_500, deletions: 500 });
  expect(waitMsMax).toBeLessThan(2_000);
}, 90_000);

test("a batch is limited to a number of conversations and members, but contains at least one conversation", async () => {
  const [deletedId, otherId] = [await createUser(), await createUser()];
  await createConversations(deletedId, otherId, 6, 0);
  const countMemberships = async (conversationsMax: number, membersMax: number) =>
    (await listMemberships(database, deletedId, undefined, { conversationsMax, membersMax })).length;
  expect([
    await countMemberships(10, 100),
    await countMemberships(4, 100),
    await countMemberships(10, 3),
    await countMemberships(10, 1),
  ]).toEqual([6, 4, 2, 1]);
});

describe("a deletion", () => {
  test("is completed by another instance if it is interrupted", async () => {
    const [deletedId, otherId] = [await createUser(), await createUser()];
    await createConversations(deletedId, otherId, 450, 20);
    await beginDeletion(deletedId);
    const firstInstance = startInstance();
    const [lastMembership] = await database`
      select conversation_id as id from members where user_id = ${deletedId} order by 1 desc limit 1`;
    // Locking this conversation keeps the deletion from completing.
    const rowsAfterInterruption = await database.begin(async (sql) => {
      await sql`select 1 from conversations where id = ${lastMembership?.id} for update`;
      firstInstance.jobs.nudge(USER_DELETIONS);
      while ((await countRows(deletedId))?.members === 470) await Bun.sleep(1);
      await firstInstance.stop();
      return countRows(deletedId);
    });
    expect(rowsAfterInterruption).toMatchObject({ users: 1, gaps: 0, unowned: 0 });
    expect(rowsAfterInterruption?.members).toBeGreaterThan(0);
    expect(rowsAfterInterruption?.members).toBeLessThan(470);
    await startInstance().waitForCompletion(deletedId);
    expect(await countRows(deletedId)).toEqual({ ...nothingRemains, removals: 450, deletions: 20 });
  }, 30_000);

  test("removes each membership once, even on two concurrent instances", async () => {
    const [deletedId, otherId] = [await createUser(), await createUser()];
    await createConversations(deletedId, otherId, 350, 10);
    await beginDeletion(deletedId);
    await Promise.all([startInstance().waitForCompletion(deletedId), startInstance().waitForCompletion(deletedId)]);
    expect(await countRows(deletedId)).toEqual({ ...nothingRemains, removals: 350, deletions: 10 });
  }, 30_000);

  test("deletes conversations whose members are all being deleted at the same time", async () => {
    const [firstId, secondId] = [await createUser(), await createUser()];
    await createConversations(firstId, secondId, 250, 0);
    await Promise.all([beginDeletion(firstId), beginDeletion(secondId)]);
    await Promise.all([startInstance().waitForCompletion(firstId), startInstance().waitForCompletion(secondId)]);
    expect(await countRows(firstId)).toMatchObject(nothingRemains);
    expect(await countRows(secondId)).toMatchObject({ ...nothingRemains, deletions: 250 });
    await runErasureJobs();
    const remainingMessages = await database`select 1 from messages where author_id in (${firstId}, ${secondId})`;
    expect(remainingMessages).toHaveLength(0);
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
    await startInstance().waitForCompletion(deletedId);
    await lateRequest;
    expect(await countRows(deletedId)).toMatchObject({ ...nothingRemains, removals: 1 });
  }, 30_000);
});

test("a locked conversation delays only the user's removal from that conversation", async () => {
  const [deletedId, otherId] = [await createUser(), await createUser()];
  await createConversations(deletedId, otherId, 150, 50);
  await beginDeletion(deletedId);
  const [lockedMembership] =
    await database`select conversation_id as id from members where user_id = ${deletedId} order by 1 limit 1`;
  await database.begin(async (sql) => {
    await sql`select 1 from conversations where id = ${lockedMembership?.id} for update`;
    // The deletion waits for the locked conversation only for a limited time.
    await startInstance().waitForCompletion(deletedId);
    expect(await countRows(deletedId)).toMatchObject({ users: 1, members: 1, gaps: 0, unowned: 0 });
  });
  await startInstance().waitForCompletion(deletedId);
  const remainingRows = await countRows(deletedId);
  expect(remainingRows).toMatchObject(nothingRemains);
  expect([remainingRows?.removals, remainingRows?.deletions]).toEqual([150, 50]);
}, 30_000);
