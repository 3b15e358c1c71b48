import type { MessageCreateParamsStreaming, MessageParam } from "@anthropic-ai/sdk/resources/messages/messages";

/**
 * Minimum length of a prefix that is marked for caching, in UTF-16 code units. Anthropic caches only prefixes of at least 1,024
 * tokens; some models require more.
 */
export const CACHED_LENGTH_MIN = 4_096;

const cacheMark = { cache_control: { type: "ephemeral" as const } };

/**
 * Marks the prefix that the conversation's next request will share, so that Anthropic reads it from its cache for a tenth of
 * the price. The prefix is the system prompt and all turns except the last one, which may contain document passages that later
 * requests don't repeat.
 */
export function markStablePrefix(request: MessageCreateParamsStreaming): MessageCreateParamsStreaming {
  const { system, messages } = request;
  const systemLength = typeof system === "string" ? system.length : 0;
  const prefix = messages.slice(0, -1);
  const prefixLength = systemLength + prefix.reduce((sum, { content }) => sum + measureContent(content), 0);
  if (prefixLength < CACHED_LENGTH_MIN) return request;
  const lastTurn = prefix.at(-1);
  const markedTurn = lastTurn ? markLastBlock(lastTurn) : null;
  return {
    ...request,
    ...(typeof system === "string" && systemLength > 0 && { system: [{ type: "text", text: system, ...cacheMark }] }),
    messages: markedTurn ? [...prefix.slice(0, -1), markedTurn, ...messages.slice(-1)] : messages,
  };
}

const measureContent = (content: MessageParam["content"]): number =>
  typeof content === "string" ? content.length : JSON.stringify(content).length;

/** Marks a turn's last block. Returns null if that isn't possible. */
function markLastBlock({ role, content }: MessageParam): MessageParam | null {
  if (role === "system") return null;
  if (typeof content === "string") return { role, content: [{ type: "text", text: content, ...cacheMark }] };
  const lastBlock = content.at(-1);
  if (lastBlock?.type !== "text" && lastBlock?.type !== "tool_use" && lastBlock?.type !== "tool_result") return null;
  return { role, content: [...content.slice(0, -1), { ...lastBlock, ...cacheMark }] };
}
