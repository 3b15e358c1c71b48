import type { Sql } from "../../db/client.ts";
import type { FinishReason } from "../messages/model.ts";
import type { Source } from "./context-texts.ts";

/** A generation that is nobody's for so long after it was made has been forgotten by a dead instance. */
const PENDING_GRACE_MS = 5_000;

export type ClaimedGeneration = {
  id: string;
  message_id: string;
  conversation_id: string;
  model: string | null;
  requested_by: string | null;
  fence: number;
  attempt: number;
  is_cancelled: boolean;
  seq: number;
  parent_id: string | null;
  content: string;
};

const claimedColumns = (sql: Sql) => sql`
  g.id, g.message_id, g.conversation_id, g.model, g.requested_by, g.fence, g.attempt, g.cancel_requested_at is not null as is_cancelled,
  x.seq, x.parent_id, x.content`;

/** Takes a generation that was just made; undefined when another instance was faster. */
export async function claimGeneration(
  sql: Sql,
  id: string,
  owner: string,
  leaseMs: number,
): Promise<ClaimedGeneration | undefined> {
  const [row] = await sql<ClaimedGeneration[]>`
    update generations g set owner = ${owner}, lease_until = now() + ${leaseMs} * interval '1 ms', status = 'running',
      fence = g.fence + 1, started_at = coalesce(g.started_at, now())
    from messages x
    where g.id = ${id} and x.id = g.message_id and g.status = 'pending' returning ${claimedColumns(sql)}`;
  return row;
}

/** Takes generations whose owner has died, or that nobody ever began. */
export async function claimOrphans(
  sql: Sql,
  owner: string,
  leaseMs: number,
  rows: number,
): Promise<ClaimedGeneration[]> {
  return sql<ClaimedGeneration[]>`
    update generations g set owner = ${owner}, lease_until = now() + ${leaseMs} * interval '1 ms', status = 'running',
      fence = g.fence + 1, started_at = coalesce(g.started_at, now())
    from messages x
    where x.id = g.message_id and g.id in (
      select id from generations
      where status <> 'finished'
        and coalesce(lease_until, created_at + ${PENDING_GRACE_MS} * interval '1 ms') < now()
      order by created_at limit ${rows} for update skip locked)
    returning ${claimedColumns(sql)}`;
}

export type Holding = { id: string; fence: number };

/** Whoever writes several generations takes their rows in this order: else two of them may wait for each other. */
const lockInOrder = (sql: Sql, held: Holding[]) => sql`
  select id from generations where id = any (${held.map(({ id }) => id)}::uuid[]) order by id for update`;

/**
 * Renews the leases that are still held.
 * @returns what is held, with whether it is to be cancelled; what is missing belongs to another instance, or is gone.
 */
export async function renewLeases(
  sql: Sql,
  owner: string,
  held: Holding[],
  leaseMs: number,
): Promise<{ id: string; is_cancelled: boolean }[]> {
  return sql<{ id: string; is_cancelled: boolean }[]>`
    with locked as materialized (${lockInOrder(sql, held)})
    update generations g set lease_until = now() + ${leaseMs} * interval '1 ms'
    from locked, unnest(${held.map(({ id }) => id)}::uuid[], ${held.map(({ fence }) => fence)}::int[]) as h (id, fence)
    where locked.id = h.id and g.id = h.id and g.fence = h.fence and g.owner = ${owner} and g.status = 'running'
    returning g.id, g.cancel_requested_at is not null as is_cancelled`;
}

/** Gives generations back: whoever looks next goes on from what is stored. */
export async function releaseLeases(sql: Sql, owner: string, held: Holding[]): Promise<void> {
  await sql`
    with locked as materialized (${lockInOrder(sql, held)})
    update generations g set lease_until = now() - interval '1 ms'
    from locked, unnest(${held.map(({ id }) => id)}::uuid[], ${held.map(({ fence }) => fence)}::int[]) as h (id, fence)
    where locked.id = h.id and g.id = h.id and g.fence = h.fence and g.owner = ${owner} and g.status = 'running'`;
}

/** Stores the text so far of many answers at once, and of each the attempt; a lost lease writes nothing. */
export async function storeCheckpoints(
  sql: Sql,
  checkpoints: (Holding & { attempt: number; text: string })[],
): Promise<void> {
  // One text for all of them: an array for each column costs the driver much more. It is JSON that Postgres can read,
  // since no text of an answer holds NUL or half a character (src/ai/text-flow.ts).
  await sql`
    with locked as materialized (${lockInOrder(sql, checkpoints)}),
    held as (
      select * from json_to_recordset(${JSON.stringify(checkpoints)}::text::json)
        as c (id uuid, fence int, attempt int, text text)
    ), mine as (
      update generations g set attempt = held.attempt from held, locked
      where locked.id = held.id and g.id = held.id and g.fence = held.fence and g.status = 'running' returning g.message_id, held.text
    )
    update messages x set content = mine.text from mine where x.id = mine.message_id`;
}

export type FinalState = {
  content: string;
  status: "complete" | "cancelled" | "failed";
  finishReason: FinishReason;
  model: string | null;
  /** All that wrote text of it, in order. */
  models: string[];
  /** Documents that it was given passages of. */
  sources?: Source[];
  usage: { input_tokens: number; output_tokens: number } | null;
  costUsd: number | null;
  error: { code: string; detail: string } | null;
};

/** Stop is stored: whoever runs the generation sees it. @returns the generation that will obey, if one still runs. */
export async function requestCancel(sql: Sql, messageId: string): Promise<string | undefined> {
  const [row] = await sql<{ id: string }[]>`
    update generations set cancel_requested_at = coalesce(cancel_requested_at, now())
    where message_id = ${messageId} and status <> 'finished' returning id`;
  return row?.id;
}

export type NewAnswerRow = {
  generationId: string;
  messageId: string;
  conversationId: string;
  seq: number;
  parentId: string;
  model: string | null;
  requestedBy: string;
};

/** An empty answer with its generation, under a number that was taken before. */
export async function insertAnswer(sql: Sql, answer: NewAnswerRow): Promise<void> {
  const { generationId, messageId, conversationId, seq, parentId, model, requestedBy } = answer;
  await sql`
    with answer as (
      insert into messages (id, conversation_id, seq, role, content, status, model, parent_id)
      values (${messageId}, ${conversationId}, ${seq}, 'assistant', '', 'streaming', ${model}, ${parentId})
    )
    insert into generations (id, message_id, conversation_id, requested_by, model)
    values (${generationId}, ${messageId}, ${conversationId}, ${requestedBy}, ${model})`;
}

/** Takes the conversation's next number. @returns it, with the conversation's own model. */
export async function takeSeq(
  sql: Sql,
  conversationId: string,
): Promise<{ seq: number; model: string | null } | undefined> {
  const [row] = await sql<{ seq: number; model: string | null }[]>`
    update conversations set last_seq = last_seq + 1, updated_at = now() where id = ${conversationId}
    returning last_seq as seq, model`;
  return row;
}

/** Answers that a user has asked for and that have not ended, wherever they are written. */
export async function countUnfinished(sql: Sql, userId: string): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::int as count from generations where requested_by = ${userId} and status <> 'finished'`;
  return row?.count ?? 0;
}
