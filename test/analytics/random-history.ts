import { type Database, type Sql, withTransaction } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { createDeletionService } from "../../src/modules/accounts/deletion.ts";
import { createAuditService } from "../../src/modules/audit/service.ts";
import { createDepartureService, createErasureJobs } from "../../src/modules/conversations/service.ts";
import { finishAnswers } from "../../src/modules/generations/finisher.ts";
import type { FinalState } from "../../src/modules/generations/queries.ts";
import * as feedback from "../../src/modules/messages/feedback-queries.ts";

const MODELS = ["openai/gpt-5.2", "anthropic/claude-opus-4-8", null];
const USERS_MIN = 3;

export type Random = { below(n: number): number };

/** Creates messages, answers, ratings, deletions and logins in random order, at random times in the last `daysBack` days. */
export function createRandomHistory(database: Database, random: Random, daysBack: number) {
  const users: string[] = [];
  const conversations: string[] = [];
  const unfinishedGenerations: { id: string; message_id: string; conversation_id: string; fence: number }[] = [];
  const deletions = createDeletionService({
    database,
    audit: createAuditService(),
    departures: createDepartureService({ database, events: { publish: () => {} } as never }),
    jobs: { nudge: () => {} },
    onDeleted: () => {},
  });
  const pick = <T>(list: readonly T[]): T | undefined => list[random.below(list.length)];
  const pickTime = (): Date => new Date(Date.now() - random.below(daysBack * 24 * 3_600) * 1_000 - random.below(1_000));

  async function addUser(): Promise<string> {
    const id = createId();
    const email = `${id}@example.com`;
    await database`
      insert into users (id, email, email_key, display_name) values (${id}, ${email}, ${email}, ${`User ${id}`})`;
    users.push(id);
    return id;
  }

  async function addConversation(): Promise<string> {
    const id = createId();
    const owner = pick(users) ?? (await addUser());
    await database`insert into conversations (id, kind, reply_mode) values (${id}, 'group', 'never')`;
    await database`insert into members (conversation_id, user_id, role) values (${id}, ${owner}, 'owner')`;
    conversations.push(id);
    return id;
  }

  const allocateSeqs = async (sql: Sql, conversationId: string, messages: number) => {
    const [row] = await sql<{ seq: number | null }[]>`
      select first_seqs[1]::int as seq from take_positions(array[${conversationId}::uuid], array[1], array[${messages}::int])`;
    return row?.seq ?? null;
  };

  /** Inserts a message as an import does, often at a past time. */
  async function addMessage(): Promise<void> {
    const conversationId = pick(conversations) ?? (await addConversation());
    const at = random.below(4) === 0 ? new Date() : pickTime();
    const role = pick(["user", "user", "user", "system", "tool"]) ?? "user";
    const author = role === "user" ? (pick(users) ?? null) : null;
    await withTransaction(database, async (sql) => {
      const seq = await allocateSeqs(sql, conversationId, 1);
      if (seq === null) return;
      await sql`
        insert into messages (conversation_id, seq, id, role, author_id, content, created_at)
        values (${conversationId}, ${seq}, ${createId()}, ${role}, ${author}, 'text', ${at})`;
      await sql`select mark_analytics_slots(array[${at}::timestamptz])`;
    });
  }

  /** Starts an answer at a past time. */
  async function addAnswer(): Promise<void> {
    const conversationId = pick(conversations);
    if (conversationId === undefined) return;
    const at = pickTime();
    const [parent] = await database<{ id: string }[]>`
      select id from messages where conversation_id = ${conversationId} and role = 'user'
      order by random() limit 1`;
    const generation = { id: createId(), message_id: createId(), conversation_id: conversationId, fence: 1 };
    const requester = pick(users) ?? null;
    const isRegenerated = random.below(3) === 0;
    const metadata = isRegenerated && requester ? { requested_by: requester } : {};
    const hasStarted = await withTransaction(database, async (sql) => {
      const seq = await allocateSeqs(sql, conversationId, 1);
      if (seq === null) return false;
      await sql`
        insert into messages (conversation_id, seq, id, role, content, status, parent_id, metadata, created_at)
        values (${conversationId}, ${seq}, ${generation.message_id}, 'assistant', '', 'streaming', ${parent?.id ?? null},
          ${sql.json(metadata)}, ${at})`;
      await sql`
        insert into generations (conversation_id, id, message_id, message_seq, requested_by, status, owner, fence, created_at)
        values (${conversationId}, ${generation.id}, ${generation.message_id}, ${seq}, ${requester}, 'running', ${createId()}, 1,
          ${at})`;
      await sql`select mark_analytics_slots(array[${at}::timestamptz])`;
      return true;
    });
    if (hasStarted) unfinishedGenerations.push(generation);
  }

  async function finishAnswer(): Promise<void> {
    const generation = pick(unfinishedGenerations);
    if (!generation) return;
    unfinishedGenerations.splice(unfinishedGenerations.indexOf(generation), 1);
    const finishedAnswer = { generation: generation as never, attempt: 1, final: createFinalState() };
    const [result] = await finishAnswers(database, [finishedAnswer], true);
    if (typeof result !== "object" || !["finished", "gone"].includes(result.outcome))
      throw new Error("The answer was not stored.");
  }

  function createFinalState(): FinalState {
    const status = pick(["complete", "complete", "failed", "cancelled"] as const) ?? "complete";
    const hasUsage = random.below(4) > 0;
    return {
      content: "answer",
      status,
      finishReason: status === "complete" ? "stop" : status === "failed" ? "error" : "cancelled",
      model: pick(MODELS) ?? null,
      models: [],
      usage: hasUsage
        ? {
            input_tokens: random.below(5_000),
            output_tokens: random.below(900),
            cached_input_tokens: random.below(100),
            reasoning_tokens: random.below(50),
          }
        : null,
      costUsd: hasUsage ? random.below(1_000) / 1_000 : null,
      firstTokenMs: random.below(4) > 0 ? random.below(20_000) : null,
      error: status === "failed" ? { code: "provider_unavailable", detail: "It failed." } : null,
    };
  }

  const findMessage = async (role: string) => {
    const [row] = await database<{ conversation_id: string; seq: number; id: string; created_at: Date }[]>`
      select m.conversation_id, m.seq, m.id, m.created_at from messages m
      join conversations c on c.id = m.conversation_id and c.deleted_at is null
      where m.role = ${role} and m.deleted_at is null order by random() limit 1`;
    return row;
  };

  async function deleteMessage(): Promise<void> {
    const message = await findMessage(random.below(2) === 0 ? "user" : "assistant");
    if (!message) return;
    await withTransaction(database, async (sql) => {
      const seq = await allocateSeqs(sql, message.conversation_id, 0);
      await sql`
        update messages set deleted_at = now(), content = '' where conversation_id = ${message.conversation_id}
          and seq = ${message.seq}`;
      await sql`
        select append_events(array[${message.conversation_id}::uuid], array[${seq}::bigint], array['message.deleted'],
          array[${message.id}::uuid], null, now())`;
    });
  }

  async function rateMessage(): Promise<void> {
    const message = await findMessage("assistant");
    const user = pick(users);
    if (!message || user === undefined) return;
    if (random.below(3) === 0) await feedback.deleteFeedback(database, message, user);
    else await feedback.upsertFeedback(database, message, user, random.below(2) === 0 ? 1 : -1, null);
  }

  async function deleteConversation(): Promise<void> {
    const id = pick(conversations);
    if (id === undefined || conversations.length < 4) return;
    conversations.splice(conversations.indexOf(id), 1);
    await withTransaction(database, async (sql) => {
      await sql`select 1 from conversations where id = ${id} for no key update`;
      await sql`select mark_deleted(array[${id}::uuid], now())`;
    });
  }

  async function deleteUser(): Promise<void> {
    const id = pick(users);
    if (id === undefined || users.length <= USERS_MIN) return;
    users.splice(users.indexOf(id), 1);
    await withTransaction(database, (sql) => deletions.begin(sql, id));
    await deletions.run(id, new AbortController().signal);
    const remainingConversations = await database<{ id: string }[]>`
      select id from conversations where id = any(${conversations}) and deleted_at is null`;
    conversations.splice(0, conversations.length, ...remainingConversations.map((row) => row.id));
  }

  async function logIn(): Promise<void> {
    const user = pick(users);
    if (user === undefined) return;
    await database`
      insert into sessions (id, user_id, refresh_key, expires_at) values (${createId()}, ${user}, '\\x00', now() + interval '1 day')`;
  }

  const changes: [weight: number, change: () => Promise<unknown>][] = [
    [10, addMessage],
    [7, addAnswer],
    [6, finishAnswer],
    [2, deleteMessage],
    [6, rateMessage],
    [1, addUser],
    [2, addConversation],
    [1, logIn],
    [0.4, deleteConversation],
    [0.4, () => createErasureJobs({ database }).run(new AbortController().signal)],
    [0.3, deleteUser],
  ];
  const totalWeight = changes.reduce((sum, [weight]) => sum + weight, 0);

  return {
    /** Makes one random change. */
    async change(): Promise<void> {
      let remainingWeight = (random.below(1_000_000) / 1_000_000) * totalWeight;
      for (const [weight, change] of changes) {
        remainingWeight -= weight;
        if (remainingWeight < 0) return void (await change());
      }
    },
  };
}
