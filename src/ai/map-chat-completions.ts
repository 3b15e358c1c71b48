import type { ChatCompletionChunk, ChatCompletionCreateParamsStreaming } from "openai/resources/chat/completions";
import { mapToTurns } from "./map-messages.ts";
import type { FinishReason, ProviderRequest, StreamPart, Usage } from "./provider.ts";
import { mapErrorEvent } from "./provider-error.ts";
import type { EventMapper } from "./stream-answer.ts";

/** Our request in the words of Chat Completions, without anything that local servers might not know. */
export function mapToChatRequest(request: ProviderRequest): ChatCompletionCreateParamsStreaming {
  const { system, turns } = mapToTurns(request.messages, request.partial);
  return {
    model: request.model,
    messages: system === null ? turns : [{ role: "system", content: system }, ...turns],
    stream: true,
    stream_options: { include_usage: true },
    ...(request.outputTokensMax === null ? {} : { max_tokens: request.outputTokensMax }),
  };
}

type Delta = ChatCompletionChunk.Choice.Delta & { reasoning_content?: string | null; reasoning?: string | null };
type ErrorChunk = { error?: { message?: string; type?: string; code?: string | number | null } | string };

/**
 * The chunks of Chat Completions. The end of an answer is its `finish_reason`, or `[DONE]` from a server that gives
 * none: either is the word of the model that nothing is missing. A stream that ends with neither has failed. That
 * `[DONE]` is missing after a `finish_reason` loses no text, and a second model would only add to a whole answer.
 */
export function createChatMapper(): EventMapper {
  let reason: FinishReason | null = null;
  let usage: Usage | null = null;

  function mapChunk(chunk: ChatCompletionChunk & ErrorChunk): StreamPart | null {
    if (chunk.error) return mapChunkError(chunk.error);
    if (chunk.usage)
      usage = { input_tokens: chunk.usage.prompt_tokens ?? 0, output_tokens: chunk.usage.completion_tokens ?? 0 };
    const choice = chunk.choices?.[0];
    if (!choice) return null;
    if (choice.finish_reason) reason = mapFinishReason(choice.finish_reason);
    const delta: Delta = choice.delta ?? {};
    if (delta.tool_calls?.length || delta.function_call) return { type: "tool_call" };
    const text = delta.content || delta.refusal;
    if (typeof text === "string" && text !== "") return { type: "text", text };
    return delta.reasoning_content || delta.reasoning ? { type: "activity" } : null;
  }

  return {
    map({ data }) {
      if (data.trim() === "[DONE]") return { type: "finish", reason: reason ?? "stop", usage };
      // Some servers keep a connection open by empty events.
      return data.trim() === "" ? null : mapChunk(JSON.parse(data) as ChatCompletionChunk & ErrorChunk);
    },
    isComplete: () => reason !== null,
    end: () => (reason === null ? null : { type: "finish", reason, usage }),
  };
}

function mapChunkError(error: NonNullable<ErrorChunk["error"]>): StreamPart {
  if (typeof error === "string") return { type: "error", error: mapErrorEvent("error", error, []) };
  const name = error.code ?? error.type ?? "error";
  return { type: "error", error: mapErrorEvent(String(name), error.message ?? "", []) };
}

function mapFinishReason(reason: string): FinishReason {
  if (reason === "length" || reason === "content_filter") return reason;
  return reason === "tool_calls" || reason === "function_call" ? "tool_calls" : "stop";
}
