import type { Sql } from "../../db/client.ts";
import { claimLease, freeCondition, heldCondition, type LeasedTable, renewLeases } from "../../db/leases.ts";
import type { StoredError } from "../../lib/error-codes.ts";
import type { FinishReason, MessageTokens } from "../../protocol/message.ts";
import type { ReasoningEffort } from "../../protocol/reasoning-effort.ts";
import type { ReplyFormat } from "../../protocol/reply-format.ts";
import type { Source } from "./context-texts.ts";

export type ClaimedGeneration = {
  id: string;
  message_id: string;
  conversation_id: string;
  model: string | null;
  requested_by: string | null;
  fence: number;
  /** The number of times that an owner crashed or couldn't store a paid result. */
  interruptions: number;
  attempt: number;
  is_cancelled: boolean;
  seq: number;
  parent_id: string | null;
  /** If null, the conversation's effort is used (context.ts). */
  reasoning_effort: ReasoningEffort | null;
  /** If null, any text is valid. */
  reply_format: ReplyFormat | null;
  /** The span that the generation belongs to. Null if unknown or not recorded. */
  traceparent: string | null;
  /** The text so far. */
  content: string;
  /** The reasoning so far. */
  reasoning: string;
};

/**
 * Returns the condition for stopping a generation `x`: a cancellation is stored, or the requester's account is disabled or deleted. If the
 * requester has left the conversation, the generation continues, because other members may be reading.
 */
const stopCondition = (sql: Sql) => sql`
  (x.cancel_requested_at is not null or (x.requested_by is not null and not exists (
    select 1 from users u where u.id = x.requested_by and u.disabled_at is null)))`;

/** Returns the columns of a claimed generation `x` and its message `m`. */
const claimedColumns = (sql: Sql) => sql`
  x.id, x.message_id, x.conversation_id, x.model, x.requested_by, x.fence, x.interruptions, x.attempt, x.reasoning_effort,
  x.reply_format, x.traceparent, ${stopCondition(sql)} as is_cancelled, m.seq, m.parent_id`;

/** Returns the condition that joins a generation `x` with its message `m`. */
const messageCondition = (sql: Sql) => sql`m.conversation_id = x.conversation_id and m.seq = x.message_seq`;

/** Returns the assignments for starting a generation. If its status is `running`, its previous owner has crashed. */
const startAssignments = (sql: Sql, owner: string, leaseMs: number) => sql`
  ${claimLease(sql, owner, leaseMs)}, interruptions = x.interruptions + (x.status = 'running')::int, status = 'running', started_at = coalesce(x.started_at, now())`;

/** Claims a new generation. Returns undefined if another instance was faster. */
export async function claimGeneration(
  sql: Sql,
  { conversationId, id }: GenerationKey,
  owner: string,
  leaseMs: number,
): Promise<ClaimedGeneration | undefined> {
  const [row] = await sql<Omit<ClaimedGeneration, "content" | "reasoning">[]>`
    update generations x set ${startAssignments(sql, owner, leaseMs)} from messages m
    where x.conversation_id = ${conversationId} and x.id = ${id} and ${messageCondition(sql)} and x.status = 'pending'
    returning ${claimedColumns(sql)}`;
  // A new generation has no text yet.
  return row && { ...row, content: "", reasoning: "" };
}

/** Claims generations whose owner has crashed, or that were never started. */
export async function claimOrphans(
  sql: Sql,
  owner: string,
  leaseMs: number,
  rowsMax: number,
): Promise<ClaimedGeneration[]> {
  const claimed = await sql<Omit<ClaimedGeneration, "content" | "reasoning">[]>`
    with orphans as materialized (
      select x.conversation_id, x.id from generations x
      where x.status <> 'finished' and ${freeCondition(sql)} order by x.id limit ${rowsMax} for no key update skip locked
    )
    update generations x set ${startAssignments(sql, owner, leaseMs)}
    from orphans o, messages m
    where x.conversation_id = o.conversation_id and x.id = o.id and ${messageCondition(sql)}
    returning ${claimedColumns(sql)}`;
  if (claimed.length === 0) return [];
  // This is a separate statement, because the previous owner's last piece may have been committed after the first statement started.
  const texts = await sql<{ id: string; content: string; reasoning: string | null }[]>`
    select k.id, x.content, x.reasoning
    from unnest(${claimed.map((row) => row.conversation_id)}::uuid[], ${claimed.map(({ seq }) => seq)}::bigint[],
      ${claimed.map(({ id }) => id)}::uuid[]) as k (conversation_id, seq, id)
    join lateral (
      select m.content, m.reasoning from current_messages m where m.conversation_id = k.conversation_id and m.seq = k.seq limit 1
    ) x on true`;
  const textsById = new Map(texts.map((text) => [text.id, text]));
  return claimed.map((row) => {
    const text = textsById.get(row.id);
    return { ...row, content: text?.content ?? "", reasoning: text?.reasoning ?? "" };
  });
}

export type GenerationKey = { conversationId: string; id: string };
export type LeaseKey = GenerationKey & { fence: number };

const leaseTable: LeasedTable<LeaseKey> = {
  name: "generations",
  key: ["conversation_id", "id"],
  selectHeldRows: (sql, held) => sql`
    unnest(${held.map(({ conversationId }) => conversationId)}::uuid[], ${held.map(({ id }) => id)}::uuid[],
      ${held.map(({ fence }) => fence)}::int[]) as h (conversation_id, id, fence)`,
  inProgressCondition: (sql) => sql`x.status = 'running'`,
};

/**
 * Renews the leases that this instance still has.
 * @returns the generations with these leases, and whether each was cancelled. If a generation is missing, it was deleted or belongs to
 * another instance.
 */
export async function renewGenerations(
  sql: Sql,
  owner: string,
  held: LeaseKey[],
  times: { leaseMs: number; renewBelowMs: number },
): Promise<{ id: string; is_cancelled: boolean }[]> {
  return sql<{ id: string; is_cancelled: boolean }[]>`
    with renewed as (${renewLeases(sql, leaseTable, owner, held, times)})
    select x.id, ${stopCondition(sql)} as is_cancelled
    from ${leaseTable.selectHeldRows(sql, held)} join generations x on ${heldCondition(sql, leaseTable, owner)}`;
}

/**
 * Releases a generation. The next owner continues from the stored text. After the release, a final state from this instance is rejected,
 * even if it is already in flight.
 * @param addedInterruptions 1 if the release counts as an interruption. Otherwise 0.
 * @returns false if this instance's final state was already stored.
 */
export async function releaseGeneration(
  sql: Sql,
  owner: string,
  { conversationId, id, fence }: LeaseKey,
  addedInterruptions: number,
): Promise<boolean> {
  await sql`
    update generations set status = 'pending', lease_until = now(), interruptions = interruptions + ${addedInterruptions}::int
    where conversation_id = ${conversationId} and id = ${id} and fence = ${fence} and owner = ${owner}
      and status = 'running'`;
  const [finishedRow] = await sql`
    select 1 from generations
    where conversation_id = ${conversationId} and id = ${id} and fence = ${fence} and status = 'finished'`;
  return finishedRow === undefined;
}

/** The delay before the next attempt to store a rejected final state. */
const REJECTED_RETRY_DELAY_S = 10;

/**
 * Releases a generation whose final state the database rejects. It can be claimed again after a delay. Sets the number of interruptions
 * to at least `interruptionsMin`, so that the next owner doesn't call a model.
 */
export async function releaseRejected(
  sql: Sql,
  owner: string,
  { conversationId, id, fence }: LeaseKey,
  interruptionsMin: number,
): Promise<void> {
  await sql`
    update generations set status = 'pending', lease_until = now() + ${REJECTED_RETRY_DELAY_S} * interval '1 s',
      interruptions = greatest(interruptions, ${interruptionsMin}::int)
    where conversation_id = ${conversationId} and id = ${id} and fence = ${fence} and owner = ${owner}
      and status = 'running'`;
}

/** Stores the span that a generation belongs to, for its next owner. */
export async function storeTraceparent(sql: Sql, { conversationId, id }: GenerationKey, traceparent: string) {
  await sql`
    update generations set traceparent = ${traceparent}
    where conversation_id = ${conversationId} and id = ${id} and status = 'running'`;
}

/** Returns whether the generation was deleted with its conversation. */
export async function isDeleted(sql: Sql, { conversationId, id }: GenerationKey): Promise<boolean> {
  // An ordered range makes Postgres use the primary key, even with a plan made while the table was empty.
  const rows = await sql`
    select 1 from generations where conversation_id = ${conversationId} and id >= ${id} and id <= ${id} order by id limit 1`;
  return rows.length === 0;
}

/** New text and reasoning to append to an answer's stored pieces. The first piece of an attempt contains all of the text so far. */
export type Piece = LeaseKey & { attempt: number; n: number; text: string; reasoning?: string };

/**
 * Stores pieces of many answers in one statement (sql/functions/store_pieces.sql). If `shouldWait` is false, skips locked generations.
 * @returns the ids of the generations that this instance still owns.
 */
export async function storePieces(sql: Sql, pieces: Piece[], { shouldWait = true } = {}): Promise<Set<string>> {
  // All pieces are in one JSON string, because an array per column costs the driver much more. Postgres can parse it, because an
  // answer's text has no NULs and no lone surrogates (src/ai/attempt/text-cleaner.ts).
  const input = pieces.map(({ conversationId, ...piece }) => ({ conversation_id: conversationId, ...piece }));
  const stored = await sql<{ id: string }[]>`
    select store_pieces(${JSON.stringify(input)}::text::json, ${shouldWait}) as id`;
  return new Set(stored.map(({ id }) => id));
}

export type FinalState = {
  content: string;
  status: "complete" | "cancelled" | "failed";
  finishReason: FinishReason;
  model: string | null;
  /** All models that wrote the text, in order. */
  models: string[];
  /** The documents whose passages the model received. */
  sources?: Source[];
  usage: MessageTokens | null;
  costUsd: number | null;
  /** The time from the generation's start to its first text. Absent or null if there was no text, or if the time is unknown. */
  firstTokenMs?: number | null;
  /** The model's reasoning. Absent or null if there is none, or if it isn't stored. */
  reasoning?: string | null;
  /** The parsed answer if a format was requested. Otherwise absent or null. */
  output?: unknown;
  error: StoredError | null;
};

/** Stores a cancellation, which the generation's owner reads. @returns the generation's id, or undefined if it has already finished. */
export async function requestCancellation(
  sql: Sql,
  { conversation_id, seq }: { conversation_id: string; seq: number },
): Promise<string | undefined> {
  // Locks the conversation first, like every change. While this transaction is open, the answer's final state waits in its commit lane
  // (src/db/commit-lanes.ts).
  await sql`select 1 from conversations where id = ${conversation_id} for no key update`;
  const [row] = await sql<{ id: string }[]>`
    update generations set cancel_requested_at = coalesce(cancel_requested_at, now())
    where conversation_id = ${conversation_id} and message_seq = ${seq} and status <> 'finished' returning id`;
  return row?.id;
}

/** Counts the answers in progress that a user requested, on any instance. */
export async function countUnfinished(sql: Sql, userId: string): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::int as count from generations where requested_by = ${userId} and status <> 'finished'`;
  return row?.count ?? 0;
}
