import type {
  MessageCreateParamsStreaming,
  RawMessageStreamEvent,
  StopReason,
} from "@anthropic-ai/sdk/resources/messages/messages";
import { mapToTurns } from "./map-messages.ts";
import type { FinishReason, ProviderRequest, StreamPart, Usage } from "./provider.ts";
import { mapErrorEvent } from "./provider-error.ts";
import type { EventMapper } from "./stream-answer.ts";

/** Most tokens of an answer where none are asked for: the Messages API wants a number. Thinking counts in it. */
const OUTPUT_TOKENS_DEFAULT = 16_384;

/** Our request in the words of Anthropic's Messages API. */
export function mapToMessagesRequest(request: ProviderRequest): MessageCreateParamsStreaming {
  const { system, turns } = mapToTurns(request.messages, request.partial);
  return {
    model: request.model,
    max_tokens: request.outputTokensMax ?? OUTPUT_TOKENS_DEFAULT,
    messages: turns,
    stream: true,
    ...(system === null ? {} : { system }),
  };
}

type ErrorEvent = { type: "error"; error?: { type?: string; message?: string } };

/** The events of Anthropic's Messages API, whose end marker is `message_stop`. Usage in it is cumulative. */
export function createMessagesMapper(): EventMapper {
  const usage: Usage = { input_tokens: 0, output_tokens: 0 };
  let isUsageKnown = false;
  let reason: FinishReason | null = null;

  function mapEvent(event: RawMessageStreamEvent | ErrorEvent): StreamPart | null {
    switch (event.type) {
      case "message_start": {
        const { input_tokens = 0, output_tokens = 0, ...cache } = event.message?.usage ?? {};
        usage.input_tokens =
          input_tokens + (cache.cache_read_input_tokens ?? 0) + (cache.cache_creation_input_tokens ?? 0);
        usage.output_tokens = output_tokens;
        isUsageKnown = usage.input_tokens > 0;
        return isUsageKnown ? { type: "usage", usage: { ...usage } } : null;
      }
      case "content_block_start":
        if (event.content_block?.type === "tool_use") return { type: "tool_call" };
        return event.content_block?.type === "text" ? null : { type: "activity" };
      case "content_block_delta":
        if (event.delta?.type !== "text_delta") return { type: "activity" };
        return event.delta.text ? { type: "text", text: event.delta.text } : null;
      case "message_delta":
        reason = mapStopReason(event.delta?.stop_reason ?? null) ?? reason;
        if (event.usage?.output_tokens) usage.output_tokens = event.usage.output_tokens;
        return isUsageKnown ? { type: "usage", usage: { ...usage } } : null;
      case "message_stop":
        return { type: "finish", reason: reason ?? "stop", usage: isUsageKnown ? usage : null };
      case "error":
        return { type: "error", error: mapErrorEvent(event.error?.type ?? "error", event.error?.message ?? "", []) };
      default:
        return null;
    }
  }

  return { map: ({ data }) => mapEvent(JSON.parse(data) as RawMessageStreamEvent | ErrorEvent) };
}

function mapStopReason(reason: StopReason | null): FinishReason | null {
  if (reason === null) return null;
  if (reason === "max_tokens" || reason === "model_context_window_exceeded") return "length";
  if (reason === "tool_use") return "tool_calls";
  return reason === "refusal" ? "content_filter" : "stop";
}
