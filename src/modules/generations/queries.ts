import type { Sql } from "../../db/client.ts";
import { isFree, isHeld, type LeasedTable, renewLeases, takeLease } from "../../db/leases.ts";
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
  /** How often its owners died, or could not store paid work. */
  interruptions: number;
  attempt: number;
  is_cancelled: boolean;
  seq: number;
  parent_id: string | null;
  /** Null: the conversation decides, see context.ts. */
  reasoning_effort: ReasoningEffort | null;
  /** Null: any text. */
  reply_format: ReplyFormat | null;
  /** The text and reasoning so far. */
  content: string;
  reasoning: string;
};

/**
 * Whether to stop a generation `x`: a stop is stored, or the requester is disabled or deleted. A requester who left the
 * conversation doesn't count: they were allowed to ask, and others may be reading.
 */
const isToStop = (sql: Sql) => sql`
  (x.cancel_requested_at is not null or (x.requested_by is not null and not exists (
    select 1 from users u where u.id = x.requested_by and u.disabled_at is null)))`;

/** The columns returned for a claimed generation `x` and its message `m`. */
const claimedColumns = (sql: Sql) => sql`
  x.id, x.message_id, x.conversation_id, x.model, x.requested_by, x.fence, x.interruptions, x.attempt, x.reasoning_effort,
  x.reply_format, ${isToStop(sql)} as is_cancelled, m.seq, m.parent_id`;

const messageOf = (sql: Sql) => sql`m.conversation_id = x.conversation_id and m.seq = x.message_seq`;

// A generation that is still running has an owner that died.
const begin = (sql: Sql, owner: string, leaseMs: number) => sql`
  ${takeLease(sql, owner, leaseMs)}, interruptions = x.interruptions + (x.status = 'running')::int, status = 'running', started_at = coalesce(x.started_at, now())`;

/** Claims a new generation; undefined if another instance was faster. */
export async function claimGeneration(
  sql: Sql,
  { conversationId, id }: GenerationKey,
  owner: string,
  leaseMs: number,
): Promise<ClaimedGeneration | undefined> {
  const [row] = await sql<Omit<ClaimedGeneration, "content" | "reasoning">[]>`
    update generations x set ${begin(sql, owner, leaseMs)} from messages m
    where x.conversation_id = ${conversationId} and x.id = ${id} and ${messageOf(sql)} and x.status = 'pending'
    returning ${claimedColumns(sql)}`;
  // Nothing has been written yet.
  return row && { ...row, content: "", reasoning: "" };
}

/** Claims generations whose owner has died, or that were never started. */
export async function claimOrphans(
  sql: Sql,
  owner: string,
  leaseMs: number,
  rows: number,
): Promise<ClaimedGeneration[]> {
  const claimed = await sql<Omit<ClaimedGeneration, "content" | "reasoning">[]>`
    with orphans as materialized (
      select x.conversation_id, x.id from generations x
      where x.status <> 'finished' and ${isFree(sql)} order by x.id limit ${rows} for no key update skip locked
    )
    update generations x set ${begin(sql, owner, leaseMs)}
    from orphans o, messages m
    where x.conversation_id = o.conversation_id and x.id = o.id and ${messageOf(sql)}
    returning ${claimedColumns(sql)}`;
  if (claimed.length === 0) return [];
  // In a separate statement: the former owner's last piece may have been committed after the first statement started.
  const texts = await sql<{ id: string; content: string; reasoning: string | null }[]>`
    select k.id, x.content, x.reasoning
    from unnest(${claimed.map((row) => row.conversation_id)}::uuid[], ${claimed.map(({ seq }) => seq)}::bigint[],
      ${claimed.map(({ id }) => id)}::uuid[]) as k (conversation_id, seq, id)
    join lateral (
      select m.content, m.reasoning from current_messages m where m.conversation_id = k.conversation_id and m.seq = k.seq limit 1
    ) x on true`;
  const found = new Map(texts.map((text) => [text.id, text]));
  return claimed.map((row) => {
    const text = found.get(row.id);
    return { ...row, content: text?.content ?? "", reasoning: text?.reasoning ?? "" };
  });
}

export type GenerationKey = { conversationId: string; id: string };
export type LeaseRow = GenerationKey & { fence: number };

const leased: LeasedTable<LeaseRow> = {
  name: "generations",
  key: ["conversation_id", "id"],
  listHeld: (sql, held) => sql`
    unnest(${held.map(({ conversationId }) => conversationId)}::uuid[], ${held.map(({ id }) => id)}::uuid[],
      ${held.map(({ fence }) => fence)}::int[]) as h (conversation_id, id, fence)`,
  isOpen: (sql) => sql`x.status = 'running'`,
};

/**
 * Renews the leases still held.
 * @returns the held ones, and whether each was cancelled; missing ones belong to another instance, or are gone.
 */
export async function renewGenerations(
  sql: Sql,
  owner: string,
  held: LeaseRow[],
  times: { leaseMs: number; enoughMs: number },
): Promise<{ id: string; is_cancelled: boolean }[]> {
  return sql<{ id: string; is_cancelled: boolean }[]>`
    with renewed as (${renewLeases(sql, leased, owner, held, times)})
    select x.id, ${isToStop(sql)} as is_cancelled
    from ${leased.listHeld(sql, held)} join generations x on ${isHeld(sql, leased, owner)}`;
}

/**
 * Releases a generation: the next instance continues from what is stored. Its end is rejected from then on, even if it is
 * already in flight.
 * @param interruptions what it counts as: 0 or 1.
 * @returns false if that end is stored.
 */
export async function releaseGeneration(
  sql: Sql,
  owner: string,
  held: LeaseRow,
  interruptions: number,
): Promise<boolean> {
  const { conversationId, id, fence } = held;
  await sql`
    update generations set status = 'pending', lease_until = now(), interruptions = interruptions + ${interruptions}::int
    where conversation_id = ${conversationId} and id = ${id} and fence = ${fence} and owner = ${owner}
      and status = 'running'`;
  const [ended] = await sql`
    select 1 from generations
    where conversation_id = ${conversationId} and id = ${id} and fence = ${fence} and status = 'finished'`;
  return ended === undefined;
}

/** How long to wait before a rejected end is tried again. */
const REFUSED_PAUSE_S = 10;

/**
 * Releases a generation whose end the database rejects, after a pause. Marks it as interrupted so often that its next owner
 * calls no model.
 */
export async function releaseRejected(sql: Sql, owner: string, held: LeaseRow, interruptions: number): Promise<void> {
  const { conversationId, id, fence } = held;
  await sql`
    update generations set status = 'pending', lease_until = now() + ${REFUSED_PAUSE_S} * interval '1 s',
      interruptions = greatest(interruptions, ${interruptions}::int)
    where conversation_id = ${conversationId} and id = ${id} and fence = ${fence} and owner = ${owner}
      and status = 'running'`;
}

/** Whether the generation was deleted with its conversation. */
export async function isDeleted(sql: Sql, { conversationId, id }: GenerationKey): Promise<boolean> {
  // As an ordered range: only the primary key fits that, even in a plan made while the table was empty.
  const rows = await sql`
    select 1 from generations where conversation_id = ${conversationId} and id >= ${id} and id <= ${id} order by id limit 1`;
  return rows.length === 0;
}

/** New text and reasoning to append to what is stored of an answer; with `n` 1 all of both, at the start of an attempt. */
export type Piece = LeaseRow & { attempt: number; n: number; text: string; reasoning?: string };

/**
 * Stores pieces of many answers in one statement (sql/functions/store_pieces.sql). @returns the generations still held.
 * Skips locked ones unless it waits.
 */
export async function storePieces(sql: Sql, pieces: Piece[], { waits = true } = {}): Promise<Set<string>> {
  // One text for all of them: an array per column costs the driver much more. Postgres can read this JSON, since an answer's
  // text has no NUL and no lone surrogates (src/ai/attempt/text-cleaner.ts).
  const input = pieces.map(({ conversationId, ...piece }) => ({ conversation_id: conversationId, ...piece }));
  const stored = await sql<{ id: string }[]>`
    select store_pieces(${JSON.stringify(input)}::text::json, ${waits}) as id`;
  return new Set(stored.map(({ id }) => id));
}

export type FinalState = {
  content: string;
  status: "complete" | "cancelled" | "failed";
  finishReason: FinishReason;
  model: string | null;
  /** All models that wrote its text, in order. */
  models: string[];
  /** Documents whose passages it received. */
  sources?: Source[];
  usage: MessageTokens | null;
  costUsd: number | null;
  /** From the generation's start to its first text; absent: none, or unknown. */
  firstTokenMs?: number | null;
  /** The model's reasoning; absent: none, or not kept. */
  reasoning?: string | null;
  /** The parsed answer, if its format required one. Absent or null: none. */
  output?: unknown;
  error: StoredError | null;
};

/** Stores a stop, which the generation's owner reads. @returns the generation that will stop, if it still runs. */
export async function requestCancel(
  sql: Sql,
  { conversation_id, seq }: { conversation_id: string; seq: number },
): Promise<string | undefined> {
  // Locked first, as everywhere: if this transaction stays open, the answer's end waits in its conversation's lane.
  await sql`select 1 from conversations where id = ${conversation_id} for no key update`;
  const [row] = await sql<{ id: string }[]>`
    update generations set cancel_requested_at = coalesce(cancel_requested_at, now())
    where conversation_id = ${conversation_id} and message_seq = ${seq} and status <> 'finished' returning id`;
  return row?.id;
}

/** A user's requested answers that have not ended, on any instance. */
export async function countUnfinished(sql: Sql, userId: string): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::int as count from generations where requested_by = ${userId} and status <> 'finished'`;
  return row?.count ?? 0;
}
