import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Database, openDatabase, type Sql, withTransaction } from "../../src/db/client.ts";
import { gatherStatistics } from "../../src/db/statistics.ts";
import { findCompletion, loadEventRanges, loadEventSlice } from "../../src/events/read.ts";
import { createId } from "../../src/lib/id.ts";
import { leaveConversations } from "../../src/modules/conversations/departure-queries.ts";
import * as conversations from "../../src/modules/conversations/queries.ts";
import { findContext, listHistory, listPath } from "../../src/modules/generations/context-queries.ts";
import { finishAnswers } from "../../src/modules/generations/finisher.ts";
import { isBeingAnswered } from "../../src/modules/generations/new-answer-queries.ts";
import { getLeaseKey } from "../../src/modules/generations/pieces.ts";
import type { ClaimedGeneration, FinalState } from "../../src/modules/generations/queries.ts";
import * as generations from "../../src/modules/generations/queries.ts";
import { createThinkingStore } from "../../src/modules/generations/thinking-store.ts";
import { loadToolProgress } from "../../src/modules/generations/tool-queries.ts";
import * as messages from "../../src/modules/messages/queries.ts";
import { sendMessages } from "../../src/modules/messages/send-queries.ts";
import { insertAnswer } from "../support/answer.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createSendItem } from "../support/send-item.ts";

const USERS = 2_000;
const CONVERSATIONS = 20_000;
/** Messages in the large conversation, about as many as in all others together. */
const LARGE_CONVERSATION_MESSAGES = 50_000;
/** Messages in each other conversation. */
const SMALL_CONVERSATION_MESSAGES = Math.floor(LARGE_CONVERSATION_MESSAGES / (CONVERSATIONS - 1));
/** Conversations per user. Each user is also a member of the large conversation. */
const CONVERSATIONS_PER_USER = 30;

let database: Database;
/** A connection whose query plans were made while the tables were empty. */
let oldConnection: Database;
let userId: string;
let largeConversationId: string;
/** The user's other conversations. */
let otherConversationIds: string[];
/** A user in half of all conversations. */
let busyUserId: string;
const BUSY_USER_CONVERSATIONS = CONVERSATIONS / 2;
let messageId: string;
let generation: ClaimedGeneration;

beforeAll(async () => {
  const testDatabase = await createTestDatabase();
  ({ database } = testDatabase);
  oldConnection = openDatabase({ target: testDatabase.target, poolSize: 1 });
  // Otherwise autovacuum would gather statistics at some point, and Postgres would replan.
  for (const table of ["conversations", "members", "member_activity", "messages", "events", "generations", "users"])
    await database.unsafe(`alter table ${table} set (autovacuum_enabled = false)`);
  const createIds = (count: number) => Array.from({ length: count }, () => createId());
  const [users, conversationIds] = [createIds(USERS), createIds(CONVERSATIONS)];
  userId = users[0] ?? "";
  busyUserId = users[1] ?? "";
  largeConversationId = conversationIds[0] ?? "";
  otherConversationIds = conversationIds.slice(2 + CONVERSATIONS_PER_USER, 2 + 2 * CONVERSATIONS_PER_USER);
  messageId = createId();
  const placeholder = { id: createId(), message_id: createId(), conversation_id: createId(), fence: 1 };
  generation = placeholder as ClaimedGeneration;
  for (const [, query] of queries) await measureReads(oldConnection, query, "force_generic_plan");
  await withTransaction(database, async (sql) => {
    // Skips the triggers that check foreign keys, which would take most of the time.
    await sql`set local session_replication_role = replica`;
    await sql`
    insert into users (id, email, email_key, password_hash, display_name)
    select id, id || '@example.com', id || '@example.com', '', 'Somebody' from unnest(${users}::uuid[]) id`;
    await sql`
    insert into conversations (id, kind, reply_mode, last_seq, message_count, updated_at, listed_at)
    select id, 'group', 'never', ${LARGE_CONVERSATION_MESSAGES * 2 + 1}, case when id = ${largeConversationId} then ${LARGE_CONVERSATION_MESSAGES}::int else ${SMALL_CONVERSATION_MESSAGES}::int end,
      now() - n * interval '1 minute', now() - n * interval '1 minute'
    from unnest(${conversationIds}::uuid[]) with ordinality x (id, n)`;
    await sql`
    insert into members (conversation_id, user_id, role)
    select (${conversationIds}::uuid[])[2 + (n * ${CONVERSATIONS_PER_USER} + k) % ${CONVERSATIONS - 1}], u, 'owner'
    from unnest(${users}::uuid[]) with ordinality x (u, n), generate_series(1, ${CONVERSATIONS_PER_USER}) k
    union all select ${largeConversationId}, u, 'owner' from unnest(${users}::uuid[]) u
    union all select c, ${busyUserId}, 'member' from unnest(${conversationIds.slice(1, BUSY_USER_CONVERSATIONS)}::uuid[]) c
    on conflict do nothing`;
    await sql`
    insert into member_activity (conversation_id, user_id, active_at)
    select m.conversation_id, m.user_id, c.listed_at from members m join conversations c on c.id = m.conversation_id`;
    await sql`
    insert into messages (id, conversation_id, seq, role, author_id, content, client_message_id)
    select gen_random_uuid(), ${largeConversationId}, n * 2, 'user', ${users[1] ?? ""}, repeat('x', 100), n::text from generate_series(1, ${LARGE_CONVERSATION_MESSAGES}) n`;
    await sql`
    insert into messages (id, conversation_id, seq, role, author_id, content, client_message_id)
    select gen_random_uuid(), c, n, 'user', ${users[1] ?? ""}, repeat('x', 100), n::text
    from unnest(${conversationIds.slice(1)}::uuid[]) c, generate_series(1, ${SMALL_CONVERSATION_MESSAGES}) n`;
    await sql`
    insert into generations (conversation_id, id, message_id, message_seq, requested_by, status, finished_at)
    select conversation_id, gen_random_uuid(), id, seq, ${userId}, 'finished', now() from messages where conversation_id = ${largeConversationId}
      and status = 'complete'`;
    await sql`
    insert into events (conversation_id, seq, type, message_id, at)
    select ${largeConversationId}, n * 2 - 1, 'message.updated', (select id from messages limit 1), now() from generate_series(1, ${LARGE_CONVERSATION_MESSAGES}) n`;
  });
  await database`
    insert into generation_pieces (conversation_id, generation_id, n, text)
    select ${largeConversationId}, gen_random_uuid(), n % 20 + 1, 'piece' from generate_series(1, 5000) n`;
  generation = await insertAnswer(database, {
    conversationId: largeConversationId,
    seq: LARGE_CONVERSATION_MESSAGES * 2 + 1,
    requestedBy: userId,
    text: "so far",
  });
  const [row] = await database<{ id: string }[]>`
    select id from messages where conversation_id = ${largeConversationId} and seq = ${LARGE_CONVERSATION_MESSAGES}`;
  messageId = row?.id ?? "";
}, 60_000);
afterAll(() => Promise.all([database.end(), oldConnection.end()]));

/** Values of `random_page_cost`: a common value for SSDs, and the default. */
const PAGE_COSTS = ["1.1", "4"];

type TableReads = { table: string; scanned: number; fetched: number };

/** Runs a query, rolls it back, and returns how many rows it read per table by sequential scan and by index. */
async function measureReads(
  connection: Database,
  query: (sql: Sql) => Promise<unknown>,
  mode: string,
  pageCost = PAGE_COSTS[0],
): Promise<TableReads[]> {
  const rollbackError = new Error("undone");
  let tableReads: TableReads[] = [];
  await withTransaction(connection, async (sql) => {
    const readStatistics = () => sql<TableReads[]>`
      select relname as table, seq_tup_read as scanned, coalesce(idx_tup_fetch, 0) as fetched from pg_stat_xact_user_tables`;
    await sql`select set_config('plan_cache_mode', ${mode}, true), set_config('random_page_cost', ${pageCost ?? ""}, true)`;
    const statisticsBefore = new Map((await readStatistics()).map((row) => [row.table, row]));
    await query(sql);
    tableReads = (await readStatistics()).map(({ table, scanned, fetched }) => ({
      table,
      scanned: scanned - (statisticsBefore.get(table)?.scanned ?? 0),
      fetched: fetched - (statisticsBefore.get(table)?.fetched ?? 0),
    }));
    throw rollbackError;
  }).catch((error: unknown) => {
    if (error !== rollbackError) throw error;
  });
  return tableReads.filter(({ scanned, fetched }) => scanned + fetched > 0);
}

const PAGE_ROWS = 51;
const createTestSendItem = () =>
  createSendItem(largeConversationId, userId, "x", { parentId: messageId, clientMessageId: createId() });
const getDaysAgo = (days: number) => new Date(Date.now() - days * 86_400_000).toISOString();
const noBounds = { beforeSeq: undefined, afterSeq: undefined };

const leaseTimes = { leaseMs: 1_000, renewBelowMs: 1_000_000 };
const finalState: FinalState = {
  content: "Done.",
  status: "complete",
  finishReason: "stop",
  model: null,
  models: [],
  usage: null,
  costUsd: null,
  error: null,
};

const CONTEXT_ROWS = 100;
const PATH_ROWS = 950;
const leaseWithContext = {
  owner: createId(),
  leaseMs: 1_000,
  context: { rowsMax: CONTEXT_ROWS, seqMax: 2 ** 31 - 1, bytesMax: 2 ** 31 - 1 },
};

/** Updates with a join. Until statistics are gathered (within 2 s), they may use the plan for an empty table. */
const joinQueries = new Set(["finishing an answer"]);

/** Extra rows read by the first event after a quiet minute, to check whether the conversation has few members. */
const FIRST_EVENT_ROWS = 51;

/** Queries by name, with the maximum number of rows that each may read per table. */
const queries: [string, (sql: Sql) => Promise<unknown>, number][] = [
  [
    "the newest page of the history",
    (sql) => messages.listMessages(sql, largeConversationId, noBounds, PAGE_ROWS),
    PAGE_ROWS,
  ],
  [
    "a page in the middle",
    (sql) =>
      messages.listMessages(
        sql,
        largeConversationId,
        { ...noBounds, beforeSeq: LARGE_CONVERSATION_MESSAGES },
        PAGE_ROWS,
      ),
    PAGE_ROWS,
  ],
  [
    "a page after a seq",
    (sql) =>
      messages.listMessages(
        sql,
        largeConversationId,
        { ...noBounds, afterSeq: LARGE_CONVERSATION_MESSAGES },
        PAGE_ROWS,
      ),
    PAGE_ROWS,
  ],
  [
    "the events after a seq",
    (sql) =>
      loadEventSlice(sql, largeConversationId, LARGE_CONVERSATION_MESSAGES, LARGE_CONVERSATION_MESSAGES * 2, PAGE_ROWS),
    PAGE_ROWS * 3,
  ],
  [
    "the last events",
    (sql) =>
      loadEventSlice(
        sql,
        largeConversationId,
        LARGE_CONVERSATION_MESSAGES * 2 - 20,
        LARGE_CONVERSATION_MESSAGES * 2,
        500,
      ),
    60,
  ],
  [
    "the last events of several conversations",
    (sql) =>
      loadEventRanges(
        sql,
        [largeConversationId, ...otherConversationIds].map((conversationId) => ({
          conversationId,
          afterSeq: LARGE_CONVERSATION_MESSAGES * 2 - 20,
          untilSeq: LARGE_CONVERSATION_MESSAGES * 2,
        })),
        20,
      ),
    100,
  ],
  ["finding a message", (sql) => messages.findMessage(sql, null, messageId, userId), 10],
  [
    "finding a message's conversation",
    (sql) => messages.findConversationId(sql, largeConversationId, messageId, userId),
    10,
  ],
  ["finding a message's answer", (sql) => messages.findAnswer(sql, largeConversationId, messageId), 10],
  ["locking a message", (sql) => messages.lockMessage(sql, largeConversationId, messageId, userId), 10],
  [
    "sending a message",
    (sql) =>
      sendMessages(sql, [createTestSendItem()], { defaultModel: "m", budget: null, lease: null, shouldWait: false }),
    12 + FIRST_EVENT_ROWS,
  ],
  [
    "sending fifty messages",
    (sql) =>
      sendMessages(sql, Array.from({ length: 50 }, createTestSendItem), {
        defaultModel: "m",
        budget: null,
        lease: null,
        shouldWait: true,
      }),
    50 * 12,
  ],
  [
    "sending a message to each of thirty conversations",
    (sql) =>
      sendMessages(
        sql,
        otherConversationIds.map((id) => createSendItem(id, userId, "x", { clientMessageId: createId() })),
        { defaultModel: "m", budget: null, lease: null, shouldWait: false },
      ),
    CONVERSATIONS_PER_USER * 12,
  ],
  [
    "sending a message and loading its answer's context",
    (sql) =>
      sendMessages(sql, [createTestSendItem()], {
        defaultModel: "m",
        budget: null,
        lease: leaseWithContext,
        shouldWait: false,
      }),
    12 + 6 * CONTEXT_ROWS,
  ],
  [
    "one conversation, with its unread count",
    (sql) => conversations.findConversation(sql, largeConversationId, userId),
    10,
  ],
  ["a page of conversations", (sql) => conversations.listConversations(sql, userId, null, PAGE_ROWS), 3 * PAGE_ROWS],
  [
    "a later page of conversations",
    (sql) =>
      conversations.listConversations(
        sql,
        userId,
        { updatedAt: new Date().toISOString(), id: largeConversationId },
        PAGE_ROWS,
      ),
    3 * PAGE_ROWS,
  ],
  [
    "a page of a very long list",
    (sql) => conversations.listConversations(sql, busyUserId, null, PAGE_ROWS),
    4 * PAGE_ROWS,
  ],
  [
    "a later page of a very long list",
    (sql) =>
      conversations.listConversations(
        sql,
        busyUserId,
        { updatedAt: getDaysAgo(3), id: largeConversationId },
        PAGE_ROWS,
      ),
    4 * PAGE_ROWS,
  ],
  ["a page of members", (sql) => conversations.listMembers(sql, largeConversationId, null, PAGE_ROWS), 2 * PAGE_ROWS],
  ["finding a member's position", (sql) => conversations.findPosition(sql, largeConversationId, userId), 10],
  [
    "moving a read position",
    (sql) =>
      conversations.moveReadPosition(sql, largeConversationId, userId, LARGE_CONVERSATION_MESSAGES, {
        shouldWait: false,
      }),
    3_012,
  ],
  [
    "moving a read position with waiting for row locks",
    (sql) =>
      conversations.moveReadPosition(sql, largeConversationId, userId, LARGE_CONVERSATION_MESSAGES, {
        shouldWait: true,
      }),
    3_012,
  ],
  [
    "the text of an answer in progress",
    (sql) => messages.findMessageById(sql, largeConversationId, generation.message_id),
    10,
  ],
  [
    "storing part of an answer",
    (sql) => generations.storePieces(sql, [{ ...getLeaseKey(generation), attempt: 1, n: 1, text: "x" }]),
    10,
  ],
  [
    "renewing an answer's lease",
    (sql) => generations.renewGenerations(sql, createId(), [getLeaseKey(generation)], leaseTimes),
    10,
  ],
  ["loading an answer's tool results", (sql) => loadToolProgress(sql, generation, "", new Map()), 10],
  ["loading the thinking before tool calls", (sql) => createThinkingStore("secret").load(sql, generation), 10],
  [
    "finding an answer's completion",
    (sql) =>
      findCompletion(sql, {
        id: messageId,
        conversation_id: largeConversationId,
        seq: LARGE_CONVERSATION_MESSAGES * 2 - 10,
      }),
    20,
  ],
  ["a context up to a message", (sql) => findContext(sql, largeConversationId, userId, messageId), 6 * CONTEXT_ROWS],
  [
    "a batch of a context's history",
    (sql) => listHistory(sql, largeConversationId, LARGE_CONVERSATION_MESSAGES, false),
    3 * PATH_ROWS,
  ],
  [
    "a batch of a context's path",
    (sql) => listPath(sql, largeConversationId, LARGE_CONVERSATION_MESSAGES, 1_000),
    3 * PATH_ROWS,
  ],
  ["a member leaving", (sql) => leaveConversations(sql, userId, "Gone", [largeConversationId]), 3 * USERS],
  [
    "stopping an answer",
    (sql) =>
      generations.requestCancellation(sql, {
        conversation_id: largeConversationId,
        seq: LARGE_CONVERSATION_MESSAGES * 2 + 1,
      }),
    10,
  ],
  ["checking whether a message is being answered", (sql) => isBeingAnswered(sql, largeConversationId, messageId), 10],
  [
    "checking whether an answer's conversation is deleted",
    (sql) => generations.isDeleted(sql, getLeaseKey(generation)),
    10,
  ],
  ["listing deleted conversations", (sql) => conversations.listDeletedIds(sql, [largeConversationId, createId()]), 10],
  ["counting a user's unfinished answers", (sql) => generations.countUnfinished(sql, userId), 10],
  ["claiming answers whose instance crashed", (sql) => generations.claimOrphans(sql, createId(), 1_000, 10), 10],
  [
    "finishing an answer",
    (sql) => finishAnswers(sql, [{ generation, attempt: 1, final: finalState }], false),
    20 + FIRST_EVENT_ROWS,
  ],
  ["locking a membership", (sql) => conversations.lockMembership(sql, largeConversationId, userId), 10],
];

describe("with a hundred thousand messages", () => {
  async function expectIndexUse(
    connection: Database,
    [name, query, rowsMax]: (typeof queries)[number],
    modes: string[],
  ): Promise<void> {
    for (const mode of modes)
      for (const cost of PAGE_COSTS)
        for (const { table, scanned, fetched } of await measureReads(connection, query, mode, cost)) {
          const plan = { name, mode, cost, table };
          expect({ ...plan, scanned }).toEqual({ ...plan, scanned: 0 });
          expect({ ...plan, fetched: Math.min(fetched, rowsMax) }).toEqual({ ...plan, fetched });
        }
  }

  test.each(queries.filter(([name]) => !joinQueries.has(name)))(
    "indexes are used for %s, even with plans made while the tables were empty",
    async (name, query, rowsMax) => {
      await expectIndexUse(oldConnection, [name, query, rowsMax], ["force_generic_plan"]);
    },
  );

  test("all queries use indexes once the grown tables have statistics, because connections replan", async () => {
    expect(await gatherStatistics(database)).toContain("messages");
    expect(await gatherStatistics(database)).toEqual([]);
    for (const query of queries) await expectIndexUse(oldConnection, query, ["force_generic_plan"]);
  }, 30_000);

  test("all queries use indexes after analyze, with custom and generic plans", async () => {
    await database`analyze`;
    for (const query of queries) await expectIndexUse(database, query, ["force_custom_plan", "force_generic_plan"]);
  }, 30_000);
});
