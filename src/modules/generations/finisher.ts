import type { Database, Sql } from "../../db/client.ts";
import { createCommitPools, createGroupCommit, ITEM_LOCKED, LOCKED } from "../../db/group-commit.ts";
import { createEvent, type DurableEvent } from "../../protocol/events.ts";
import type { Message } from "../../protocol/message.ts";
import type { ClaimedGeneration, FinalState } from "./queries.ts";

type FinishedAnswer = { generation: ClaimedGeneration; attempt: number; final: FinalState };

type StoredRow =
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
 * `finished` means that the answer is stored and the event must be pushed. `lost` means that another instance has the lease, so this
 * instance must stop writing. `gone` means that the answer was deleted with its conversation.
 */
export type FinishResult = { outcome: "finished"; event: DurableEvent } | { outcome: "lost" | "gone" };

/** Creates a queue that stores finished answers. The answers that finish during a commit are stored together by the next commit. */
export function createFinisher({ database }: { database: Database }) {
  const pools = createCommitPools(database);
  const commits = createGroupCommit<FinishedAnswer, StoredRow>({
    getKey: ({ generation }) => generation.conversation_id,
    getSender: ({ generation }) => generation.id,
    getBytes: ({ final }) => (final.content.length * 2 + (final.reasoning?.length ?? 0)) * 3,
    commit: (answers) => finishAnswers(pools.openBatchPool(), answers, false),
    waitAndCommit: (answers) => finishAnswers(pools.openLanePool(), answers, true),
  });

  return {
    /** Stores an answer. Resolves when its final state, event and cost are committed. */
    async finish(answer: FinishedAnswer): Promise<FinishResult> {
      const stored = await commits.submit(answer);
      if (stored.outcome !== "finished") return stored;
      const { conversation_id: conversationId } = answer.generation;
      const position = { seq: stored.event_seq, at: stored.at };
      const event = createEvent("message.completed", conversationId, position, mapToMessage(answer, stored));
      return { outcome: "finished", event };
    },

    /** Closes the connections for commits. */
    close: pools.close,
  };
}

/** Writes a batch in one transaction (sql/functions/end_answers.sql). Returns one result per answer, in order. */
export async function finishAnswers(
  sql: Sql,
  answers: FinishedAnswer[],
  shouldWait: boolean,
): Promise<(StoredRow | typeof LOCKED | typeof ITEM_LOCKED)[]> {
  const finalStates = answers.map(({ final }) => final);
  const rows = await sql<((StoredRow | { outcome: "locked" | "item_locked" }) & { n: number })[]>`
    select n, outcome, event_seq, at, model, cost_usd, metadata, created_at from end_answers(
      ${answers.map(({ generation }) => generation.conversation_id)}::uuid[],
      ${answers.map(({ generation }) => generation.id)}::uuid[],
      ${answers.map(({ generation }) => generation.fence)}::int[], ${answers.map(({ attempt }) => attempt)}::int[],
      ${finalStates.map(({ content }) => content)}::text[], ${finalStates.map(({ status }) => status)}::text[],
      ${finalStates.map(({ finishReason }) => finishReason)}::text[], ${finalStates.map(({ model }) => model)}::text[],
      ${finalStates.map(({ usage }) => usage?.input_tokens ?? null)}::int[],
      ${finalStates.map(({ usage }) => usage?.output_tokens ?? null)}::int[],
      ${finalStates.map(({ costUsd }) => costUsd)}::numeric[], ${finalStates.map(({ error }) => error?.code ?? null)}::text[],
      ${finalStates.map(({ error }) => error?.detail ?? null)}::text[],
      ${finalStates.map(({ models, sources }) => JSON.stringify({ models, ...(sources?.length && { sources }) }))}::text[],
      ${shouldWait}, ${finalStates.map(({ usage }) => usage?.cached_input_tokens ?? null)}::int[],
      ${finalStates.map(({ usage }) => usage?.reasoning_tokens ?? null)}::int[],
      ${finalStates.map(({ firstTokenMs }) => firstTokenMs ?? null)}::int[],
      ${finalStates.map(({ reasoning }) => reasoning || null)}::text[],
      ${finalStates.map(({ output }) => (output === undefined ? null : JSON.stringify(output)))}::text[])
    order by n`;
  const outcomes = new Map<number, StoredRow | typeof LOCKED | typeof ITEM_LOCKED>();
  for (const { n, ...row } of rows)
    if (row.outcome === "locked") outcomes.set(n, LOCKED);
    else outcomes.set(n, row.outcome === "item_locked" ? ITEM_LOCKED : (row as StoredRow));
  return answers.map((_, index) => outcomes.get(index + 1) ?? { outcome: "gone" });
}

/** Maps a finished answer that was just stored to its message. */
function mapToMessage(
  { generation, final }: FinishedAnswer,
  stored: Extract<StoredRow, { outcome: "finished" }>,
): Message {
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
