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
import { createDepartures, createErasures } from "../../src/modules/conversations/service.ts";
import { createMemoryBus } from "../../src/realtime/bus-memory.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
afterAll(() => database.end({ timeout: 1 }));

const bus = createMemoryBus({ log: silentLog });
const createInstance = (jobs: Pick<Jobs, "nudge">) => {
  const events = createEventLog({ database, changes: createChanges(database), bus });
  const departures = createDepartures({ database, events });
  return createDeletions({ database, audit: createAuditService(), departures, jobs, onDeleted: () => {} });
};

const started: { stop(): Promise<void> }[] = [];
/** Starts an instance's deletion job. */
function startInstance() {
  const jobs = createJobs({ database, log: silentLog, instanceId: createId() });
  const deletions = createInstance(jobs);
  registerAccountJobs(jobs, { deletions });
  jobs.start();
  const instance = { ...deletions, jobs, stop: () => jobs.stop(Date.now() + 5_000) };
  started.push(instance);
  return instance;
}

async function createUser(): Promise<string> {
  const id = createId();
  await database`insert into users (id, email, email_key, display_name) values (${id}, ${id}, ${`${id}@x`}, 'Somebody')`;
  return id;
}

/** Conversations with two members, `others` of them owned by the second, and some with only the first. */
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

const begin = (userId: string) => database.begin((sql) => createInstance({ nudge() {} }).begin(sql, userId));

/** What is left of a user, and gaps in the conversations' sequence numbers. */
async function inspect(userId: string) {
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

const done = { users: 0, members: 0, unowned: 0, gaps: 0 };

/** Erases deleted conversations, as the job does. */
const erase = () => createErasures({ database }).run(new AbortController().signal);
afterEach(async () => {
  await Promise.all(started.splice(0).map((instance) => instance.stop()));
  await erase();
  const [left] = await database`select 1 from conversations where deleted_at is not null`;
  expect(left).toBeUndefined();
});

test("removes 10,000 memberships in batches, without delaying others", async () => {
  const [gone, stays] = [await createUser(), await createUser()];
  await createConversations(gone, stays, 9_500, 500);
  await begin(gone);
  // A user who writes in one of them the whole time.
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
  const deletions = startInstance();
  const deadlineMs = Date.now() + 60_000;
  while ((await inspect(gone))?.users === 1 && Date.now() < deadlineMs) await deletions.complete(gone);
  isDone = true;
  await writer;
  expect(await inspect(gone)).toEqual({ ...done, removals: 9_500, deletions: 500 });
  expect(waitedMs).toBeLessThan(2_000);
}, 90_000);

test("a batch is limited by conversations and their members, and has at least one", async () => {
  const [gone, stays] = [await createUser(), await createUser()];
  await createConversations(gone, stays, 6, 0);
  const count = async (rows: number, members: number) =>
    (await listMemberships(database, gone, undefined, { rows, members })).length;
  expect([await count(10, 100), await count(4, 100), await count(10, 3), await count(10, 1)]).toEqual([6, 4, 2, 1]);
});

describe("an interrupted deletion", () => {
  test("is continued by any instance, and leaves nothing half done", async () => {
    const [gone, stays] = [await createUser(), await createUser()];
    await createConversations(gone, stays, 450, 20);
    await begin(gone);
    const first = startInstance();
    const [last] = await database`
      select conversation_id as id from members where user_id = ${gone} order by 1 desc limit 1`;
    // The lock of this conversation keeps the deletion from completing.
    const interrupted = await database.begin(async (sql) => {
      await sql`select 1 from conversations where id = ${last?.id} for update`;
      first.jobs.nudge(USER_DELETIONS);
      while ((await inspect(gone))?.members === 470) await Bun.sleep(1);
      await first.stop();
      return inspect(gone);
    });
    expect(interrupted).toMatchObject({ users: 1, gaps: 0, unowned: 0 });
    expect(interrupted?.members).toBeGreaterThan(0);
    expect(interrupted?.members).toBeLessThan(470);
    await startInstance().complete(gone);
    expect(await inspect(gone)).toEqual({ ...done, removals: 450, deletions: 20 });
  }, 30_000);

  test("is done once by two concurrent instances", async () => {
    const [gone, stays] = [await createUser(), await createUser()];
    await createConversations(gone, stays, 350, 10);
    await begin(gone);
    await Promise.all([startInstance().complete(gone), startInstance().complete(gone)]);
    expect(await inspect(gone)).toEqual({ ...done, removals: 350, deletions: 10 });
  }, 30_000);

  test("several users who share all conversations can be deleted concurrently; the last deletion also deletes the conversations", async () => {
    const [first, second] = [await createUser(), await createUser()];
    await createConversations(first, second, 250, 0);
    await Promise.all([begin(first), begin(second)]);
    await Promise.all([startInstance().complete(first), startInstance().complete(second)]);
    expect(await inspect(first)).toMatchObject(done);
    expect(await inspect(second)).toMatchObject({ ...done, deletions: 250 });
    await erase();
    const left = await database`select 1 from messages where author_id in (${first}, ${second})`;
    expect(left).toHaveLength(0);
  }, 30_000);

  test("a user added at the last moment is removed again, with an event", async () => {
    const [gone, stays] = [await createUser(), await createUser()];
    await createConversations(stays, stays, 0, 1);
    const [conversation] = await database`select conversation_id as id from members where user_id = ${stays}`;
    await begin(gone);
    // A request that checked the user before the deletion began.
    const lateRequest = database.begin(async (sql) => {
      await sql`insert into members (conversation_id, user_id, role) values (${conversation?.id}, ${gone}, 'member')`;
      await Bun.sleep(300);
    });
    await Bun.sleep(50);
    await startInstance().complete(gone);
    await lateRequest;
    expect(await inspect(gone)).toMatchObject({ ...done, removals: 1 });
  }, 30_000);
});

test("a locked conversation doesn't delay the others, and is left once it is unlocked", async () => {
  const [gone, stays] = [await createUser(), await createUser()];
  await createConversations(gone, stays, 150, 50);
  await begin(gone);
  const [locked] = await database`select conversation_id as id from members where user_id = ${gone} order by 1 limit 1`;
  await database.begin(async (sql) => {
    await sql`select 1 from conversations where id = ${locked?.id} for update`;
    // Waits for the locked one, for a limited time.
    await startInstance().complete(gone);
    expect(await inspect(gone)).toMatchObject({ users: 1, members: 1, gaps: 0, unowned: 0 });
  });
  await startInstance().complete(gone);
  const left = await inspect(gone);
  expect(left).toMatchObject(done);
  expect([left?.removals, left?.deletions]).toEqual([150, 50]);
}, 30_000);
