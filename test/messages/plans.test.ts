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
import { keyOf } from "../../src/modules/generations/pieces.ts";
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
/** Messages in the big conversation, about as many as in all others together. */
const BIG_MESSAGES = 50_000;
/** Messages in each other conversation. */
const SMALL_MESSAGES = Math.floor(BIG_MESSAGES / (CONVERSATIONS - 1));
/** Conversations per user. Each user is also in the big one. */
const CONVERSATIONS_PER_USER = 30;

let database: Database;
/** A connection whose query plans were made while the tables were empty. */
let oldConnection: Database;
let user: string;
let bigConversation: string;
/** Other conversations of the user. */
let otherConversations: string[];
/** A user in half of all conversations. */
let busyUser: string;
const BUSY_USER_CONVERSATIONS = CONVERSATIONS / 2;
let message: string;
let running: ClaimedGeneration;

beforeAll(async () => {
  const test = await createTestDatabase();
  ({ database } = test);
  oldConnection = openDatabase({ target: test.target, poolSize: 1 });
  // Otherwise autovacuum would gather statistics at some point, and Postgres would replan.
  for (const table of ["conversations", "members", "member_activity", "messages", "events", "generations", "users"])
    await database.unsafe(`alter table ${table} set (autovacuum_enabled = false)`);
  const createIds = (count: number) => Array.from({ length: count }, () => createId());
  const [users, conversationIds] = [createIds(USERS), createIds(CONVERSATIONS)];
  user = users[0] ?? "";
  busyUser = users[1] ?? "";
  bigConversation = conversationIds[0] ?? "";
  otherConversations = conversationIds.slice(2 + CONVERSATIONS_PER_USER, 2 + 2 * CONVERSATIONS_PER_USER);
  message = createId();
  const unknown = { id: createId(), message_id: createId(), conversation_id: createId(), fence: 1 };
  running = unknown as ClaimedGeneration;
  for (const [, query] of queries) await measure(oldConnection, query, "force_generic_plan");
  await withTransaction(database, async (sql) => {
    // Skips the triggers that check foreign keys, which would take most of the time.
    await sql`set local session_replication_role = replica`;
    await sql`
    insert into users (id, email, email_key, password_hash, display_name)
    select id, id || '@example.com', id || '@example.com', '', 'Somebody' from unnest(${users}::uuid[]) id`;
    await sql`
    insert into conversations (id, kind, reply_mode, last_seq, message_count, updated_at, listed_at)
    select id, 'group', 'never', ${BIG_MESSAGES * 2 + 1}, case when id = ${bigConversation} then ${BIG_MESSAGES}::int else ${SMALL_MESSAGES}::int end,
      now() - n * interval '1 minute', now() - n * interval '1 minute'
    from unnest(${conversationIds}::uuid[]) with ordinality x (id, n)`;
    await sql`
    insert into members (conversation_id, user_id, role)
    select (${conversationIds}::uuid[])[2 + (n * ${CONVERSATIONS_PER_USER} + k) % ${CONVERSATIONS - 1}], u, 'owner'
    from unnest(${users}::uuid[]) with ordinality x (u, n), generate_series(1, ${CONVERSATIONS_PER_USER}) k
    union all select ${bigConversation}, u, 'owner' from unnest(${users}::uuid[]) u
    union all select c, ${busyUser}, 'member' from unnest(${conversationIds.slice(1, BUSY_USER_CONVERSATIONS)}::uuid[]) c
    on conflict do nothing`;
    await sql`
    insert into member_activity (conversation_id, user_id, active_at)
    select m.conversation_id, m.user_id, c.listed_at from members m join conversations c on c.id = m.conversation_id`;
    await sql`
    insert into messages (id, conversation_id, seq, role, author_id, content, client_message_id)
    select gen_random_uuid(), ${bigConversation}, n * 2, 'user', ${users[1] ?? ""}, repeat('x', 100), n::text from generate_series(1, ${BIG_MESSAGES}) n`;
    await sql`
    insert into messages (id, conversation_id, seq, role, author_id, content, client_message_id)
    select gen_random_uuid(), c, n, 'user', ${users[1] ?? ""}, repeat('x', 100), n::text
    from unnest(${conversationIds.slice(1)}::uuid[]) c, generate_series(1, ${SMALL_MESSAGES}) n`;
    await sql`
    insert into generations (conversation_id, id, message_id, message_seq, requested_by, status, finished_at)
    select conversation_id, gen_random_uuid(), id, seq, ${user}, 'finished', now() from messages where conversation_id = ${bigConversation}
      and status = 'complete'`;
    await sql`
    insert into events (conversation_id, seq, type, message_id, at)
    select ${bigConversation}, n * 2 - 1, 'message.updated', (select id from messages limit 1), now() from generate_series(1, ${BIG_MESSAGES}) n`;
  });
  await database`
    insert into generation_pieces (conversation_id, generation_id, n, text)
    select ${bigConversation}, gen_random_uuid(), n % 20 + 1, 'piece' from generate_series(1, 5000) n`;
  running = await insertAnswer(database, {
    conversationId: bigConversation,
    seq: BIG_MESSAGES * 2 + 1,
    requestedBy: user,
    text: "so far",
  });
  const [row] = await database<{ id: string }[]>`
    select id from messages where conversation_id = ${bigConversation} and seq = ${BIG_MESSAGES}`;
  message = row?.id ?? "";
}, 60_000);
afterAll(() => Promise.all([database.end(), oldConnection.end()]));

/** Values of `random_page_cost`: one usual for SSDs, and the default. */
const PAGE_COSTS = ["1.1", "4"];

type Work = { table: string; scanned: number; fetched: number };

/** Runs a query, rolls it back, and returns the rows that it read by scans and by index per table. */
async function measure(
  on: Database,
  work: (sql: Sql) => Promise<unknown>,
  mode: string,
  pageCost = PAGE_COSTS[0],
): Promise<Work[]> {
  const undo = new Error("undone");
  let touched: Work[] = [];
  await withTransaction(on, async (sql) => {
    const read = () => sql<Work[]>`
      select relname as table, seq_tup_read as scanned, coalesce(idx_tup_fetch, 0) as fetched from pg_stat_xact_user_tables`;
    await sql`select set_config('plan_cache_mode', ${mode}, true), set_config('random_page_cost', ${pageCost ?? ""}, true)`;
    const before = new Map((await read()).map((row) => [row.table, row]));
    await work(sql);
    touched = (await read()).map(({ table, scanned, fetched }) => ({
      table,
      scanned: scanned - (before.get(table)?.scanned ?? 0),
      fetched: fetched - (before.get(table)?.fetched ?? 0),
    }));
    throw undo;
  }).catch((error: unknown) => {
    if (error !== undo) throw error;
  });
  return touched.filter(({ scanned, fetched }) => scanned + fetched > 0);
}

const PAGE = 51;
const sendItem = () => createSendItem(bigConversation, user, "x", { parentId: message, clientMessageId: createId() });
const getDaysAgo = (days: number) => new Date(Date.now() - days * 86_400_000).toISOString();
const noBounds = { beforeSeq: undefined, afterSeq: undefined };

const leaseTimes = { leaseMs: 1_000, renewBelowMs: 1_000_000 };
const final: FinalState = {
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
  ["the newest page of the history", (sql) => messages.listMessages(sql, bigConversation, noBounds, PAGE), PAGE],
  [
    "a page in the middle",
    (sql) => messages.listMessages(sql, bigConversation, { ...noBounds, beforeSeq: BIG_MESSAGES }, PAGE),
    PAGE,
  ],
  [
    "a page after a seq",
    (sql) => messages.listMessages(sql, bigConversation, { ...noBounds, afterSeq: BIG_MESSAGES }, PAGE),
    PAGE,
  ],
  [
    "the events after a seq",
    (sql) => loadEventSlice(sql, bigConversation, BIG_MESSAGES, BIG_MESSAGES * 2, PAGE),
    PAGE * 3,
  ],
  ["the last events", (sql) => loadEventSlice(sql, bigConversation, BIG_MESSAGES * 2 - 20, BIG_MESSAGES * 2, 500), 60],
  [
    "the last events of several conversations",
    (sql) =>
      loadEventRanges(
        sql,
        [bigConversation, ...otherConversations].map((conversationId) => ({
          conversationId,
          afterSeq: BIG_MESSAGES * 2 - 20,
          untilSeq: BIG_MESSAGES * 2,
        })),
        20,
      ),
    100,
  ],
  ["finding a message", (sql) => messages.findMessage(sql, null, message, user), 10],
  ["finding a message's conversation", (sql) => messages.findConversationId(sql, bigConversation, message, user), 10],
  ["finding a message's answer", (sql) => messages.findAnswer(sql, bigConversation, message), 10],
  ["locking a message", (sql) => messages.lockMessage(sql, bigConversation, message, user), 10],
  [
    "a send",
    (sql) => sendMessages(sql, [sendItem()], { defaultModel: "m", budget: null, lease: null, shouldWait: false }),
    12 + FIRST_EVENT_ROWS,
  ],
  [
    "fifty sends",
    (sql) =>
      sendMessages(sql, Array.from({ length: 50 }, sendItem), {
        defaultModel: "m",
        budget: null,
        lease: null,
        shouldWait: true,
      }),
    50 * 12,
  ],
  [
    "a send into each of thirty conversations",
    (sql) =>
      sendMessages(
        sql,
        otherConversations.map((id) => createSendItem(id, user, "x", { clientMessageId: createId() })),
        { defaultModel: "m", budget: null, lease: null, shouldWait: false },
      ),
    CONVERSATIONS_PER_USER * 12,
  ],
  [
    "a send that also loads its answer's context",
    (sql) =>
      sendMessages(sql, [sendItem()], { defaultModel: "m", budget: null, lease: leaseWithContext, shouldWait: false }),
    12 + 6 * CONTEXT_ROWS,
  ],
  ["one conversation, with its unread count", (sql) => conversations.findConversation(sql, bigConversation, user), 10],
  ["a page of conversations", (sql) => conversations.listConversations(sql, user, null, PAGE), 3 * PAGE],
  [
    "a later page of conversations",
    (sql) =>
      conversations.listConversations(sql, user, { updatedAt: new Date().toISOString(), id: bigConversation }, PAGE),
    3 * PAGE,
  ],
  ["a page of a very long list", (sql) => conversations.listConversations(sql, busyUser, null, PAGE), 4 * PAGE],
  [
    "a later page of a very long list",
    (sql) => conversations.listConversations(sql, busyUser, { updatedAt: getDaysAgo(3), id: bigConversation }, PAGE),
    4 * PAGE,
  ],
  ["a page of members", (sql) => conversations.listMembers(sql, bigConversation, null, PAGE), 2 * PAGE],
  ["finding a member's position", (sql) => conversations.findPosition(sql, bigConversation, user), 10],
  [
    "moving a read position",
    (sql) => conversations.moveReadPosition(sql, bigConversation, user, BIG_MESSAGES, { shouldWait: false }),
    3_012,
  ],
  [
    "moving a read position, even if the row is locked,",
    (sql) => conversations.moveReadPosition(sql, bigConversation, user, BIG_MESSAGES, { shouldWait: true }),
    3_012,
  ],
  [
    "the text of an answer in progress",
    (sql) => messages.findMessageById(sql, bigConversation, running.message_id),
    10,
  ],
  [
    "storing part of an answer",
    (sql) => generations.storePieces(sql, [{ ...keyOf(running), attempt: 1, n: 1, text: "x" }]),
    10,
  ],
  [
    "renewing an answer's lease",
    (sql) => generations.renewGenerations(sql, createId(), [keyOf(running)], leaseTimes),
    10,
  ],
  ["loading an answer's tool results", (sql) => loadToolProgress(sql, running, "", new Map()), 10],
  ["loading the thinking before tool calls", (sql) => createThinkingStore("secret").load(sql, running), 10],
  [
    "finding an answer's completion",
    (sql) => findCompletion(sql, { id: message, conversation_id: bigConversation, seq: BIG_MESSAGES * 2 - 10 }),
    20,
  ],
  ["a context up to a message", (sql) => findContext(sql, bigConversation, user, message), 6 * CONTEXT_ROWS],
  ["a batch of a context's history", (sql) => listHistory(sql, bigConversation, BIG_MESSAGES, false), 3 * PATH_ROWS],
  ["a batch of a context's path", (sql) => listPath(sql, bigConversation, BIG_MESSAGES, 1_000), 3 * PATH_ROWS],
  ["a member leaving", (sql) => leaveConversations(sql, user, "Gone", [bigConversation]), 3 * USERS],
  [
    "stopping an answer",
    (sql) => generations.requestCancel(sql, { conversation_id: bigConversation, seq: BIG_MESSAGES * 2 + 1 }),
    10,
  ],
  ["checking whether a message is being answered", (sql) => isBeingAnswered(sql, bigConversation, message), 10],
  ["checking whether an answer's conversation is deleted", (sql) => generations.isDeleted(sql, keyOf(running)), 10],
  ["listing deleted conversations", (sql) => conversations.listDeleted(sql, [bigConversation, createId()]), 10],
  ["counting a user's unfinished answers", (sql) => generations.countUnfinished(sql, user), 10],
  ["claiming answers whose instance crashed", (sql) => generations.claimOrphans(sql, createId(), 1_000, 10), 10],
  [
    "finishing an answer",
    (sql) => finishAnswers(sql, [{ generation: running, attempt: 1, final }], false),
    20 + FIRST_EVENT_ROWS,
  ],
  ["locking a membership", (sql) => conversations.lockMembership(sql, bigConversation, user), 10],
];

describe("with a hundred thousand messages", () => {
  async function check(on: Database, [name, query, rowsMax]: (typeof queries)[number], modes: string[]): Promise<void> {
    for (const mode of modes)
      for (const cost of PAGE_COSTS)
        for (const { table, scanned, fetched } of await measure(on, query, mode, cost)) {
          const plan = { name, mode, cost, table };
          expect({ ...plan, scanned }).toEqual({ ...plan, scanned: 0 });
          expect({ ...plan, fetched: Math.min(fetched, rowsMax) }).toEqual({ ...plan, fetched });
        }
  }

  test.each(queries.filter(([name]) => !joinQueries.has(name)))(
    "%s uses indexes, even with plans made while the tables were empty",
    async (name, query, rowsMax) => {
      await check(oldConnection, [name, query, rowsMax], ["force_generic_plan"]);
    },
  );

  test("all queries use indexes once the grown tables have statistics, because connections replan", async () => {
    expect(await gatherStatistics(database)).toContain("messages");
    expect(await gatherStatistics(database)).toEqual([]);
    for (const query of queries) await check(oldConnection, query, ["force_generic_plan"]);
  }, 30_000);

  test("all queries use indexes after analyze, with custom and generic plans", async () => {
    await database`analyze`;
    for (const query of queries) await check(database, query, ["force_custom_plan", "force_generic_plan"]);
  }, 30_000);
});
