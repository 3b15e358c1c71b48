import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Database, openDatabase, type Sql, withTransaction } from "../../src/db/client.ts";
import { gatherStatistics } from "../../src/db/statistics.ts";
import { findCompletion, listEvents, loadEventsOf } from "../../src/events/read.ts";
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
/** One conversation has as many messages as all others together. */
const BIG = 50_000;
const SMALL = Math.floor(BIG / (CONVERSATIONS - 1));
/** Conversations per user; every user is also in the big one. */
const OWN = 30;

let database: Database;
/** A connection whose plans were made while the tables were empty. */
let early: Database;
let user: string;
let big: string;
/** Other conversations of the user. */
let own: string[];
/** In half of all conversations. */
let busy: string;
const BUSY = CONVERSATIONS / 2;
let message: string;
let running: ClaimedGeneration;

beforeAll(async () => {
  const test = await createTestDatabase();
  ({ database } = test);
  early = openDatabase({ target: test.target, poolSize: 1 });
  // Otherwise autovacuum would gather statistics at some point, and cause new plans.
  for (const table of ["conversations", "members", "member_activity", "messages", "events", "generations", "users"])
    await database.unsafe(`alter table ${table} set (autovacuum_enabled = false)`);
  const ids = (count: number) => Array.from({ length: count }, () => createId());
  const [users, all] = [ids(USERS), ids(CONVERSATIONS)];
  user = users[0] ?? "";
  busy = users[1] ?? "";
  big = all[0] ?? "";
  own = all.slice(2 + OWN, 2 + 2 * OWN);
  message = createId();
  const unknown = { id: createId(), message_id: createId(), conversation_id: createId(), fence: 1 };
  running = unknown as ClaimedGeneration;
  for (const [, query] of queries) await measure(early, query, "force_generic_plan");
  await withTransaction(database, async (sql) => {
    // Without the triggers for foreign keys, which take most of the time.
    await sql`set local session_replication_role = replica`;
    await sql`
    insert into users (id, email, email_key, password_hash, display_name)
    select id, id || '@example.com', id || '@example.com', '', 'Somebody' from unnest(${users}::uuid[]) id`;
    await sql`
    insert into conversations (id, kind, reply_mode, last_seq, message_count, updated_at, listed_at)
    select id, 'group', 'never', ${BIG * 2 + 1}, case when id = ${big} then ${BIG}::int else ${SMALL}::int end,
      now() - n * interval '1 minute', now() - n * interval '1 minute'
    from unnest(${all}::uuid[]) with ordinality x (id, n)`;
    await sql`
    insert into members (conversation_id, user_id, role)
    select (${all}::uuid[])[2 + (n * ${OWN} + k) % ${CONVERSATIONS - 1}], u, 'owner'
    from unnest(${users}::uuid[]) with ordinality x (u, n), generate_series(1, ${OWN}) k
    union all select ${big}, u, 'owner' from unnest(${users}::uuid[]) u
    union all select c, ${busy}, 'member' from unnest(${all.slice(1, BUSY)}::uuid[]) c
    on conflict do nothing`;
    await sql`
    insert into member_activity (conversation_id, user_id, active_at)
    select m.conversation_id, m.user_id, c.listed_at from members m join conversations c on c.id = m.conversation_id`;
    await sql`
    insert into messages (id, conversation_id, seq, role, author_id, content, client_message_id)
    select gen_random_uuid(), ${big}, n * 2, 'user', ${users[1] ?? ""}, repeat('x', 100), n::text from generate_series(1, ${BIG}) n`;
    await sql`
    insert into messages (id, conversation_id, seq, role, author_id, content, client_message_id)
    select gen_random_uuid(), c, n, 'user', ${users[1] ?? ""}, repeat('x', 100), n::text
    from unnest(${all.slice(1)}::uuid[]) c, generate_series(1, ${SMALL}) n`;
    await sql`
    insert into generations (conversation_id, id, message_id, message_seq, requested_by, status, finished_at)
    select conversation_id, gen_random_uuid(), id, seq, ${user}, 'finished', now() from messages where conversation_id = ${big}
      and status = 'complete'`;
    await sql`
    insert into events (conversation_id, seq, type, message_id, at)
    select ${big}, n * 2 - 1, 'message.updated', (select id from messages limit 1), now() from generate_series(1, ${BIG}) n`;
  });
  await database`
    insert into generation_pieces (conversation_id, generation_id, n, text)
    select ${big}, gen_random_uuid(), n % 20 + 1, 'piece' from generate_series(1, 5000) n`;
  running = await insertAnswer(database, { conversationId: big, seq: BIG * 2 + 1, requestedBy: user, text: "so far" });
  const [row] = await database<{ id: string }[]>`
    select id from messages where conversation_id = ${big} and seq = ${BIG}`;
  message = row?.id ?? "";
}, 60_000);
afterAll(() => Promise.all([database.end(), early.end()]));

/** Page costs of servers tuned for their disks, and the default. */
const PAGE_COSTS = ["1.1", "4"];

type Work = { table: string; scanned: number; fetched: number };

/** The rows touched by one query: read by scans and fetched by index. Rolled back. */
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
const sendItem = () => createSendItem(big, user, "x", { parentId: message, clientMessageId: createId() });
const daysAgo = (days: number) => new Date(Date.now() - days * 86_400_000).toISOString();
const none = { beforeSeq: undefined, afterSeq: undefined };

const leaseTimes = { leaseMs: 1_000, enoughMs: 1_000_000 };
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
  context: { rows: CONTEXT_ROWS, seqMax: 2 ** 31 - 1, bytesMax: 2 ** 31 - 1 },
};

/** Updates with a join: until statistics are gathered, within 2 s, they may use the plan for an empty table. */
const joins = new Set(["the end of an answer"]);

/** Extra rows read by the first event after a quiet minute, to find out whether the conversation has few members. */
const QUIET = 51;

/** The most rows that a query may touch per table. */
const queries: [string, (sql: Sql) => Promise<unknown>, number][] = [
  ["the newest page of the history", (sql) => messages.listMessages(sql, big, none, PAGE), PAGE],
  ["a page in the middle", (sql) => messages.listMessages(sql, big, { ...none, beforeSeq: BIG }, PAGE), PAGE],
  ["a page forwards", (sql) => messages.listMessages(sql, big, { ...none, afterSeq: BIG }, PAGE), PAGE],
  ["the events after a seq", (sql) => listEvents(sql, big, BIG, BIG * 2, PAGE), PAGE * 3],
  ["the last events", (sql) => listEvents(sql, big, BIG * 2 - 20, BIG * 2, 500), 60],
  [
    "the last events of several conversations",
    (sql) =>
      loadEventsOf(
        sql,
        [big, ...own].map((conversationId) => ({ conversationId, afterSeq: BIG * 2 - 20, untilSeq: BIG * 2 })),
        20,
      ),
    100,
  ],
  ["one message", (sql) => messages.findMessage(sql, null, message, user), 10],
  ["its conversation", (sql) => messages.findConversationId(sql, big, message, user), 10],
  ["an answer to it", (sql) => messages.findAnswer(sql, big, message), 10],
  ["a change of it", (sql) => messages.lockMessage(sql, big, message, user), 10],
  [
    "a send",
    (sql) => sendMessages(sql, [sendItem()], { defaultModel: "m", budget: null, lease: null, waits: false }),
    12 + QUIET,
  ],
  [
    "fifty sends",
    (sql) =>
      sendMessages(sql, Array.from({ length: 50 }, sendItem), {
        defaultModel: "m",
        budget: null,
        lease: null,
        waits: true,
      }),
    50 * 12,
  ],
  [
    "a send into each of thirty conversations",
    (sql) =>
      sendMessages(
        sql,
        own.map((id) => createSendItem(id, user, "x", { clientMessageId: createId() })),
        { defaultModel: "m", budget: null, lease: null, waits: false },
      ),
    OWN * 12,
  ],
  [
    "a send, with the context of its answer",
    (sql) =>
      sendMessages(sql, [sendItem()], { defaultModel: "m", budget: null, lease: leaseWithContext, waits: false }),
    12 + 6 * CONTEXT_ROWS,
  ],
  ["one conversation, with its unread count", (sql) => conversations.findConversation(sql, big, user), 10],
  ["a page of conversations", (sql) => conversations.listConversations(sql, user, null, PAGE), 3 * PAGE],
  [
    "a later page of conversations",
    (sql) => conversations.listConversations(sql, user, { updatedAt: new Date().toISOString(), id: big }, PAGE),
    3 * PAGE,
  ],
  ["a page of a very long list", (sql) => conversations.listConversations(sql, busy, null, PAGE), 4 * PAGE],
  [
    "a later page of a very long list",
    (sql) => conversations.listConversations(sql, busy, { updatedAt: daysAgo(3), id: big }, PAGE),
    4 * PAGE,
  ],
  ["a page of members", (sql) => conversations.listMembers(sql, big, null, PAGE), 2 * PAGE],
  ["a position", (sql) => conversations.findPosition(sql, big, user), 10],
  ["a read position", (sql) => conversations.moveReadPosition(sql, big, user, BIG, { waits: false }), 3_012],
  [
    "a read position, waiting for the lock",
    (sql) => conversations.moveReadPosition(sql, big, user, BIG, { waits: true }),
    3_012,
  ],
  ["the text of an answer in progress", (sql) => messages.findMessageById(sql, big, running.message_id), 10],
  ["a piece of it", (sql) => generations.storePieces(sql, [{ ...keyOf(running), attempt: 1, n: 1, text: "x" }]), 10],
  ["its lease", (sql) => generations.renewGenerations(sql, createId(), [keyOf(running)], leaseTimes), 10],
  ["results of tools for it", (sql) => loadToolProgress(sql, running, "", new Map()), 10],
  ["the thinking before them", (sql) => createThinkingStore("secret").load(sql, running), 10],
  [
    "the end of another answer",
    (sql) => findCompletion(sql, { id: message, conversation_id: big, seq: BIG * 2 - 10 }),
    20,
  ],
  ["a context up to a message", (sql) => findContext(sql, big, user, message), 6 * CONTEXT_ROWS],
  ["a batch of a history", (sql) => listHistory(sql, big, BIG, false), 3 * PATH_ROWS],
  ["a batch of a path", (sql) => listPath(sql, big, BIG, 1_000), 3 * PATH_ROWS],
  ["a member leaving", (sql) => leaveConversations(sql, user, "Gone", [big]), 3 * USERS],
  ["a stop of it", (sql) => generations.requestCancel(sql, { conversation_id: big, seq: BIG * 2 + 1 }), 10],
  ["whether a message is being answered", (sql) => isBeingAnswered(sql, big, message), 10],
  ["whether its conversation is deleted", (sql) => generations.isDeleted(sql, keyOf(running)), 10],
  ["which conversations are deleted", (sql) => conversations.listDeleted(sql, [big, createId()]), 10],
  ["the number of a user's pending answers", (sql) => generations.countUnfinished(sql, user), 10],
  ["answers whose owner died", (sql) => generations.claimOrphans(sql, createId(), 1_000, 10), 10],
  [
    "the end of an answer",
    (sql) => finishAnswers(sql, [{ generation: running, attempt: 1, final }], false),
    20 + QUIET,
  ],
  ["the lock of a conversation", (sql) => conversations.lockMembership(sql, big, user), 10],
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

  test.each(queries.filter(([name]) => !joins.has(name)))(
    "%s uses indexes, with plans made while the tables were empty",
    async (name, query, rowsMax) => {
      await check(early, [name, query, rowsMax], ["force_generic_plan"]);
    },
  );

  test("all use indexes once the grown tables have statistics, because connections replan", async () => {
    expect(await gatherStatistics(database)).toContain("messages");
    expect(await gatherStatistics(database)).toEqual([]);
    for (const query of queries) await check(early, query, ["force_generic_plan"]);
  }, 30_000);

  test("all use indexes with statistics too, with custom and generic plans", async () => {
    await database`analyze`;
    for (const query of queries) await check(database, query, ["force_custom_plan", "force_generic_plan"]);
  }, 30_000);
});
