import type { ChatMessage, Thinking } from "../../ai/provider.ts";
import { measureThinking } from "../../ai/thinking.ts";
import type { Sql } from "../../db/client.ts";

/** Data about its call in a `tool` message's `metadata`. */
export type ToolMetadata = {
  name: string;
  /** As written by the model: JSON, or what should have been. */
  arguments: string;
  call_id: string;
  is_error: boolean;
  /** The same number for all calls of a step; the first is 1. */
  step: number;
  /** Length of the answer's text before the call, in UTF-16 units. */
  offset: number;
  /** The same for its reasoning. Absent in results of older versions. */
  reasoning_offset?: number;
};

/** The steps of an answer that ended with calls, as far as their results are stored. */
export type ToolProgress = {
  messages: ChatMessage[];
  /** The number of finished steps. */
  steps: number;
  /** Length of the answer's text from those steps. */
  offset: number;
  /** The same for its reasoning. */
  reasoningOffset: number;
  /** UTF-16 units of thinking in those steps. */
  thinkingLength: number;
};

type AnsweredMessage = { conversation_id: string; parent_id: string | null; requested_by: string | null };

/**
 * The user on whose behalf tools are called. Null if an integration asked, since anyone who knows a hook's URL could
 * otherwise act as its owner.
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
 * Loads tool results of earlier owners of the generation.
 * @param thought the models' thinking before the calls, by step.
 */
export async function loadToolProgress(
  sql: Sql,
  { conversation_id, message_id }: { conversation_id: string; message_id: string },
  text: string,
  thought: ReadonlyMap<number, Thinking>,
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
    const thinking = thought.get(step);
    if (thinking) progress.thinkingLength += measureThinking(thinking);
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
