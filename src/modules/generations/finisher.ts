import type { Database, Sql } from "../../db/client.ts";
import { createCommitPools, createGroupCommit, ITEM_LOCKED, LOCKED } from "../../db/group-commit.ts";
import { createEvent, type DurableEvent } from "../../protocol/events.ts";
import type { Message } from "../../protocol/message.ts";
import type { ClaimedGeneration, FinalState } from "./queries.ts";

type Ending = { generation: ClaimedGeneration; attempt: number; final: FinalState };

type Stored =
  | { outcome: "lost" | "gone" }
  | {
      outcome: "finished";
      event_seq: number;
      at: Date;
      model: string | null;
      cost_usd: string | null;
      metadata: Message["metadata"];
      created_at: Date;
    };

/**
 * `finished`: stored, with the event to push. `lost`: another instance holds the lease, so nothing may be written any more.
 * `gone`: the conversation was deleted, and the answer with it.
 */
export type Finish = { outcome: "finished"; event: DurableEvent } | { outcome: "lost" | "gone" };

/** Stores the ends of answers. Ends that arrive while a commit is in flight are written together by the next one. */
export function createFinisher({ database }: { database: Database }) {
  const pools = createCommitPools(database);
  const commits = createGroupCommit<Ending, Stored>({
    keyOf: ({ generation }) => generation.conversation_id,
    senderOf: ({ generation }) => generation.id,
    bytesOf: ({ final }) => (final.content.length * 2 + (final.reasoning?.length ?? 0)) * 3,
    commit: (endings) => finishAnswers(pools.openBatches(), endings, false),
    commitWaiting: (endings) => finishAnswers(pools.openLanes(), endings, true),
  });

  return {
    /** Resolves once the end, its event and its cost are committed. */
    async finish(ending: Ending): Promise<Finish> {
      const stored = await commits.submit(ending);
      if (stored.outcome !== "finished") return stored;
      const { conversation_id: conversationId } = ending.generation;
      const position = { seq: stored.event_seq, at: stored.at };
      const event = createEvent("message.completed", conversationId, position, mapToMessage(ending, stored));
      return { outcome: "finished", event };
    },

    /** Closes its connections. */
    close: pools.close,
  };
}

/** Writes a batch in one transaction (sql/functions/end_answers.sql); returns one row per ending, in order. */
export async function finishAnswers(
  sql: Sql,
  endings: Ending[],
  waits: boolean,
): Promise<(Stored | typeof LOCKED | typeof ITEM_LOCKED)[]> {
  const finals = endings.map(({ final }) => final);
  const rows = await sql<((Stored | { outcome: "locked" | "item_locked" }) & { n: number })[]>`
    select n, outcome, event_seq, at, model, cost_usd, metadata, created_at from end_answers(
      ${endings.map(({ generation }) => generation.conversation_id)}::uuid[],
      ${endings.map(({ generation }) => generation.id)}::uuid[],
      ${endings.map(({ generation }) => generation.fence)}::int[], ${endings.map(({ attempt }) => attempt)}::int[],
      ${finals.map(({ content }) => content)}::text[], ${finals.map(({ status }) => status)}::text[],
      ${finals.map(({ finishReason }) => finishReason)}::text[], ${finals.map(({ model }) => model)}::text[],
      ${finals.map(({ usage }) => usage?.input_tokens ?? null)}::int[],
      ${finals.map(({ usage }) => usage?.output_tokens ?? null)}::int[],
      ${finals.map(({ costUsd }) => costUsd)}::numeric[], ${finals.map(({ error }) => error?.code ?? null)}::text[],
      ${finals.map(({ error }) => error?.detail ?? null)}::text[],
      ${finals.map(({ models, sources }) => JSON.stringify({ models, ...(sources?.length && { sources }) }))}::text[],
      ${waits}, ${finals.map(({ usage }) => usage?.cached_input_tokens ?? null)}::int[],
      ${finals.map(({ usage }) => usage?.reasoning_tokens ?? null)}::int[],
      ${finals.map(({ firstTokenMs }) => firstTokenMs ?? null)}::int[],
      ${finals.map(({ reasoning }) => reasoning || null)}::text[],
      ${finals.map(({ output }) => (output === undefined ? null : JSON.stringify(output)))}::text[])
    order by n`;
  const stored = new Map<number, Stored | typeof LOCKED | typeof ITEM_LOCKED>();
  for (const { n, ...row } of rows)
    if (row.outcome === "locked") stored.set(n, LOCKED);
    else stored.set(n, row.outcome === "item_locked" ? ITEM_LOCKED : (row as Stored));
  return endings.map((_, index) => stored.get(index + 1) ?? { outcome: "gone" });
}

/** The message as just stored. */
function mapToMessage({ generation, final }: Ending, stored: Extract<Stored, { outcome: "finished" }>): Message {
  const { usage } = final;
  const costUsd = stored.cost_usd === null ? null : Number(stored.cost_usd);
  return {
    id: generation.message_id,
    conversation_id: generation.conversation_id,
    seq: generation.seq,
    role: "assistant",
    author: null,
    supplied: false,
    content: final.content,
    status: final.status,
    model: stored.model,
    finish_reason: final.finishReason,
    usage: usage && {
      input_tokens: usage.input_tokens,
      output_tokens: usage.output_tokens,
      cost_usd: costUsd,
      cached_input_tokens: usage.cached_input_tokens,
      reasoning_tokens: usage.reasoning_tokens,
    },
    parent_id: generation.parent_id,
    client_message_id: null,
    error: final.error,
    reasoning: final.reasoning || null,
    output: final.output ?? null,
    metadata: stored.metadata,
    created_at: stored.created_at.toISOString(),
    updated_at: stored.at.toISOString(),
    deleted_at: null,
  };
}
