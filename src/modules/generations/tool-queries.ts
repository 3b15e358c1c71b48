import type { ChatMessage, Thinking } from "../../ai/provider.ts";
import { getThinkingLength } from "../../ai/thinking.ts";
import type { Sql } from "../../db/client.ts";

/** The `metadata` of a `tool` message, which describes the call. */
export type ToolMetadata = {
  name: string;
  /** The JSON that the model wrote, which may be invalid. */
  arguments: string;
  call_id: string;
  is_error: boolean;
  /** The number of the step, starting at 1. A step may have several calls. */
  step: number;
  /** The length of the answer's text before the call, in UTF-16 code units. */
  offset: number;
  /** The length of the answer's reasoning before the call. Absent in results from older versions. */
  reasoning_offset?: number;
};

/** The steps of an answer whose calls have stored results. */
export type ToolProgress = {
  messages: ChatMessage[];
  /** The number of finished steps. */
  steps: number;
  /** The length of the answer's text in those steps. */
  offset: number;
  /** The length of the answer's reasoning in those steps. */
  reasoningOffset: number;
  /** The length of the thinking in those steps, in UTF-16 code units. */
  thinkingLength: number;
};

type AnsweredMessage = { conversation_id: string; parent_id: string | null; requested_by: string | null };

/**
 * Finds the user on whose behalf tools are called. Returns null if the question came through a hook. Otherwise, anyone who knows a
 * hook's URL could act as its owner.
 */
export async function findToolRequester(
  sql: Sql,
  { conversation_id, parent_id, requested_by }: AnsweredMessage,
): Promise<string | null> {
  const [row] = await sql<{ is_hook: boolean }[]>`
    select hook_user_id is not distinct from ${requested_by}::uuid as is_hook from messages
    where conversation_id = ${conversation_id} and id = ${parent_id} and hook_user_id is not null`;
  return row?.is_hook ? null : requested_by;
}

/**
 * Loads the tool results that the generation's earlier owners stored.
 * @param thinkingByStep the models' thinking before the calls, by step.
 */
export async function loadToolProgress(
  sql: Sql,
  { conversation_id, message_id }: { conversation_id: string; message_id: string },
  text: string,
  thinkingByStep: ReadonlyMap<number, Thinking>,
): Promise<ToolProgress> {
  const rows = await sql<{ content: string; metadata: ToolMetadata }[]>`
    select content, metadata from messages
    where conversation_id = ${conversation_id} and parent_id = ${message_id} and role = 'tool' and deleted_at is null order by seq`;
  const progress: ToolProgress = { messages: [], steps: 0, offset: 0, reasoningOffset: 0, thinkingLength: 0 };
  for (const [step, calls] of Map.groupBy(rows, ({ metadata }) => metadata.step)) {
    const offset = calls[0]?.metadata.offset ?? progress.offset;
    const toolCalls = calls.map(({ metadata }) => {
      return { id: metadata.call_id, name: metadata.name, arguments: metadata.arguments };
    });
    const thinking = thinkingByStep.get(step);
    if (thinking) progress.thinkingLength += getThinkingLength(thinking);
    progress.messages.push(
      { role: "assistant", content: text.slice(progress.offset, offset), toolCalls, thinking },
      ...calls.map(({ content, metadata }) => ({ role: "tool" as const, content, toolCallId: metadata.call_id })),
    );
    progress.steps = step;
    progress.offset = offset;
    progress.reasoningOffset = calls[0]?.metadata.reasoning_offset ?? progress.reasoningOffset;
  }
  return progress;
}
