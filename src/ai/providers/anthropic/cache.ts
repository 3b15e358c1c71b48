import type { MessageCreateParamsStreaming, MessageParam } from "@anthropic-ai/sdk/resources/messages/messages";

/**
 * UTF-16 units from which a prefix is marked for caching. Anthropic caches nothing below 1,024 tokens (more on some models)
 * and ignores the mark there; a short conversation isn't worth it.
 */
export const CACHED_LENGTH_MIN = 4_096;

const mark = { cache_control: { type: "ephemeral" as const } };

/**
 * Marks the prefix that the next request of the conversation will share, so that Anthropic reads it from its cache for a
 * tenth of the price: the system text and all turns before the last user turn. The last one isn't marked, because document
 * passages appear in it only once.
 */
export function markStablePrefix(request: MessageCreateParamsStreaming): MessageCreateParamsStreaming {
  const { system, messages } = request;
  const systemLength = typeof system === "string" ? system.length : 0;
  const before = messages.slice(0, -1);
  const prefixLength = systemLength + before.reduce((sum, { content }) => sum + lengthOf(content), 0);
  if (prefixLength < CACHED_LENGTH_MIN) return request;
  const last = before.at(-1);
  const marked = last ? markLastBlock(last) : null;
  return {
    ...request,
    ...(typeof system === "string" && systemLength > 0 && { system: [{ type: "text", text: system, ...mark }] }),
    messages: marked ? [...before.slice(0, -1), marked, ...messages.slice(-1)] : messages,
  };
}

const lengthOf = (content: MessageParam["content"]): number =>
  typeof content === "string" ? content.length : JSON.stringify(content).length;

/** Null if the turn's last block can't be marked. */
function markLastBlock({ role, content }: MessageParam): MessageParam | null {
  if (role === "system") return null;
  if (typeof content === "string") return { role, content: [{ type: "text", text: content, ...mark }] };
  const last = content.at(-1);
  if (last?.type !== "text" && last?.type !== "tool_use" && last?.type !== "tool_result") return null;
  return { role, content: [...content.slice(0, -1), { ...last, ...mark }] };
}
