import type {
  ResponseCreateParamsStreaming,
  ResponseInputItem,
  ResponseStreamEvent,
  ResponseUsage,
} from "openai/resources/responses/responses";
import type { AnswerOptions, ModelFinishReason, ProviderRequest, Usage } from "../../provider.ts";
import { mapErrorEvent } from "../../provider-error.ts";
import { mapToTurns, type Turn } from "../map-conversation.ts";
import type { EventMapper, MappedEvent } from "../stream-answer.ts";
import { createToolCalls } from "../tool-calls.ts";

/** Our request in the words of OpenAI's Responses API. */
export function mapToResponsesRequest(request: ProviderRequest): ResponseCreateParamsStreaming {
  const { system, turns } = mapToTurns(request.messages, request.partial);
  return {
    model: request.model,
    input: turns.flatMap(mapTurn),
    stream: true,
    // The conversation is kept by Parley, not by the provider.
    store: false,
    ...(system === null ? {} : { instructions: system }),
    ...(request.outputTokensMax === null ? {} : { max_output_tokens: request.outputTokensMax }),
    ...mapOptions(request.options),
  };
}

function mapTurn(turn: Turn): ResponseInputItem[] {
  if (turn.role === "tool")
    return turn.results.map(({ callId, content }) => ({
      type: "function_call_output",
      call_id: callId,
      output: content,
    }));
  const message = turn.content.trim() === "" ? [] : [{ role: turn.role, content: turn.content }];
  if (turn.role === "user") return message;
  const calls = turn.toolCalls.map(({ id, name, arguments: text }) => ({
    type: "function_call" as const,
    call_id: id,
    name,
    arguments: text,
  }));
  return [...message, ...calls];
}

/** The Responses API knows no `stop`. */
function mapOptions(options: AnswerOptions): Partial<ResponseCreateParamsStreaming> {
  const { tools = [], toolChoice, temperature, topP, areParallelToolCallsAllowed } = options;
  const shared = {
    ...(typeof temperature === "number" && { temperature }),
    ...(typeof topP === "number" && { top_p: topP }),
  };
  if (tools.length === 0) return shared;
  return {
    ...shared,
    tools: tools.map(({ name, description, parameters, isStrict }) => ({
      type: "function",
      name,
      description,
      parameters: { ...parameters },
      // Said in any case: absent, the API takes it for true.
      strict: isStrict ?? false,
    })),
    ...(toolChoice && {
      tool_choice: typeof toolChoice === "string" ? toolChoice : { type: "function", ...toolChoice },
    }),
    ...(typeof areParallelToolCallsAllowed === "boolean" && { parallel_tool_calls: areParallelToolCallsAllowed }),
  };
}

/** The events of OpenAI's Responses API, whose end marker is `response.completed` or `response.incomplete`. */
export function createResponsesMapper(): EventMapper {
  const calls = createToolCalls();
  return {
    map({ data }) {
      if (data === "[DONE]") return null;
      const event = JSON.parse(data) as ResponseStreamEvent;
      if (event.type === "response.output_item.done" && event.item?.type === "function_call")
        calls.add(event.output_index, { ...event.item, id: event.item.call_id });
      const part = mapEvent(event);
      if (part?.type !== "finish" || part.reason !== "stop") return part;
      const toolCalls = calls.list();
      return toolCalls.length === 0 ? part : { ...part, reason: "tool_calls", toolCalls };
    },
  };
}

const toolCallTypes = new Set(["function_call", "custom_tool_call", "mcp_call"]);

function mapEvent(event: ResponseStreamEvent): MappedEvent | null {
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
    case "response.function_call_arguments.delta":
      return { type: "tool_call" };
    case "response.completed":
      return { type: "finish", reason: "stop", usage: mapUsage(event.response?.usage) };
    case "response.incomplete": {
      const reason: ModelFinishReason =
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
