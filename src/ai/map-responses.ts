import type {
  ResponseCreateParamsStreaming,
  ResponseStreamEvent,
  ResponseUsage,
} from "openai/resources/responses/responses";
import { mapToTurns } from "./map-messages.ts";
import type { FinishReason, ProviderRequest, StreamPart, Usage } from "./provider.ts";
import { mapErrorEvent } from "./provider-error.ts";
import type { EventMapper } from "./stream-answer.ts";

/** Our request in the words of OpenAI's Responses API. */
export function mapToResponsesRequest(request: ProviderRequest): ResponseCreateParamsStreaming {
  const { system, turns } = mapToTurns(request.messages, request.partial);
  return {
    model: request.model,
    input: turns,
    stream: true,
    // The conversation is kept by Parley, not by the provider.
    store: false,
    ...(system === null ? {} : { instructions: system }),
    ...(request.outputTokensMax === null ? {} : { max_output_tokens: request.outputTokensMax }),
  };
}

/** The events of OpenAI's Responses API, whose end marker is `response.completed` or `response.incomplete`. */
export function createResponsesMapper(): EventMapper {
  return {
    map({ data }) {
      return data === "[DONE]" ? null : mapEvent(JSON.parse(data) as ResponseStreamEvent);
    },
  };
}

const toolCallTypes = new Set(["function_call", "custom_tool_call", "mcp_call"]);

function mapEvent(event: ResponseStreamEvent): StreamPart | null {
  switch (event.type) {
    case "response.output_text.delta":
    // A refusal is the model's answer too: the reader is to see it.
    case "response.refusal.delta":
      return typeof event.delta === "string" && event.delta !== "" ? { type: "text", text: event.delta } : null;
    case "response.reasoning_text.delta":
    case "response.reasoning_summary_text.delta":
      return { type: "activity" };
    case "response.output_item.added":
      if (toolCallTypes.has(event.item?.type)) return { type: "tool_call" };
      return event.item?.type === "reasoning" ? { type: "activity" } : null;
    case "response.completed":
      return { type: "finish", reason: "stop", usage: mapUsage(event.response?.usage) };
    case "response.incomplete": {
      const reason: FinishReason =
        event.response?.incomplete_details?.reason === "content_filter" ? "content_filter" : "length";
      return { type: "finish", reason, usage: mapUsage(event.response?.usage) };
    }
    case "response.failed": {
      const { code, message } = event.response?.error ?? { code: "unknown", message: "no error given" };
      return { type: "error", error: mapErrorEvent(code, message, []) };
    }
    case "error":
      return { type: "error", error: mapErrorEvent(event.code ?? "error", event.message, []) };
    default:
      return null;
  }
}

function mapUsage(usage: ResponseUsage | null | undefined): Usage | null {
  return usage ? { input_tokens: usage.input_tokens, output_tokens: usage.output_tokens } : null;
}
