import type { ChatMessage, Thinking } from "../../ai/provider.ts";
import { measureThinking } from "../../ai/thinking.ts";
import type { Sql } from "../../db/client.ts";

/** What a `tool` message keeps of its call, in `metadata`. */
export type ToolMetadata = {
  name: string;
  /** As the model wrote them: JSON, or what should have been. */
  arguments: string;
  call_id: string;
  is_error: boolean;
  /** Calls of one step have the same number; the first is 1. */
  step: number;
  /** Length of the answer's text before the call, in UTF-16 units. */
  offset: number;
};

/** Steps of an answer that have ended with calls, as far as their results are stored. */
export type ToolProgress = {
  messages: ChatMessage[];
  /** Steps that were taken. */
  steps: number;
  /** Length of the answer's text that belongs to those steps. */
  offset: number;
  /** UTF-16 units of what was thought in them. */
  thinkingLength: number;
};

type Asked = { conversation_id: string; parent_id: string | null; requested_by: string | null };

/**
 * The user in whose name tools are called. Null for what an integration asked: whoever knows the address of a hook could
 * act as its owner.
 */
export async function findToolAsker(
  sql: Sql,
  { conversation_id, parent_id, requested_by }: Asked,
): Promise<string | null> {
  const [row] = await sql<{ is_hook: boolean }[]>`
    select hook_user_id is not distinct from ${requested_by}::uuid as is_hook from messages
    where conversation_id = ${conversation_id} and id = ${parent_id} and hook_user_id is not null`;
  return row?.is_hook ? null : requested_by;
}

/**
 * What an earlier owner of the generation has got from tools.
 * @param thought what the models thought before they called them, by step.
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
  const progress: ToolProgress = { messages: [], steps: 0, offset: 0, thinkingLength: 0 };
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
  }
  return progress;
}
