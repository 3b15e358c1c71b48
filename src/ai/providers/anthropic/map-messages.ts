import type {
  ToolChoice as AnthropicToolChoice,
  ContentBlockParam,
  MessageCreateParamsStreaming,
  MessageParam,
  RawMessageStreamEvent,
  StopReason,
} from "@anthropic-ai/sdk/resources/messages/messages";
import type { AnswerOptions, ModelFinishReason, ProviderRequest, ToolChoice, Usage } from "../../provider.ts";
import { mapErrorEvent } from "../../provider-error.ts";
import { mapToTurns, type Turn } from "../map-conversation.ts";
import type { EventMapper, MappedEvent } from "../stream-answer.ts";
import { createToolCalls } from "../tool-calls.ts";
import { markStablePrefix } from "./cache.ts";

/** Most tokens of an answer where none are asked for: the Messages API wants a number. Thinking counts in it. */
const OUTPUT_TOKENS_DEFAULT = 16_384;

/** Our request in the words of Anthropic's Messages API. */
export function mapToMessagesRequest(request: ProviderRequest): MessageCreateParamsStreaming {
  const { system, turns } = mapToTurns(request.messages, request.partial);
  return markStablePrefix({
    model: request.model,
    max_tokens: request.outputTokensMax ?? OUTPUT_TOKENS_DEFAULT,
    messages: mapTurns(turns),
    stream: true,
    ...(system === null ? {} : { system }),
    ...mapOptions(request.options),
  });
}

/** Results of tools are part of a user's turn here, in front of what the user says. */
function mapTurns(turns: readonly Turn[]): MessageParam[] {
  const messages: MessageParam[] = [];
  for (const turn of turns) {
    const role = turn.role === "assistant" ? "assistant" : "user";
    const content = mapTurn(turn);
    const last = messages.at(-1);
    if (last?.role === role) last.content = [...toBlocks(last.content), ...toBlocks(content)];
    else messages.push({ role, content });
  }
  return messages;
}

const toBlocks = (content: string | ContentBlockParam[]): ContentBlockParam[] =>
  typeof content === "string" ? [{ type: "text", text: content }] : content;

function mapTurn(turn: Turn): string | ContentBlockParam[] {
  if (turn.role === "tool")
    return turn.results.map(({ callId, content }) => ({
      type: "tool_result",
      tool_use_id: mapCallId(callId),
      content,
    }));
  if (turn.role === "user" || turn.toolCalls.length === 0) return turn.content;
  const calls = turn.toolCalls.map(({ id, name, arguments: text }) => ({
    type: "tool_use" as const,
    id: mapCallId(id),
    name,
    input: parseArguments(text),
  }));
  return turn.content.trim() === "" ? calls : [{ type: "text", text: turn.content }, ...calls];
}

/** Calls of other providers' models may have ids with characters that this API refuses. */
const mapCallId = (id: string): string => id.replace(/[^\w-]/g, "_");

/** The API takes objects only; what a model wrote wrongly is shown to it as it was. */
function parseArguments(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch {
    // It was no JSON.
  }
  return { arguments: text };
}

/** The range of this API ends where the others' middle is. */
const TEMPERATURE_MAX = 1;

function mapOptions(options: AnswerOptions): Partial<MessageCreateParamsStreaming> {
  const { tools = [], toolChoice, temperature, topP, stop = [], areParallelToolCallsAllowed } = options;
  const shared = {
    ...(typeof temperature === "number" && { temperature: Math.min(temperature, TEMPERATURE_MAX) }),
    ...(typeof topP === "number" && { top_p: topP }),
    ...(stop.length > 0 && { stop_sequences: [...stop] }),
  };
  if (tools.length === 0) return shared;
  const choice = mapToolChoice(toolChoice ?? "auto");
  const isSerial = areParallelToolCallsAllowed === false && choice.type !== "none";
  return {
    ...shared,
    tools: tools.map(({ name, description, parameters }) => ({
      name,
      ...(description !== null && { description }),
      input_schema: { ...parameters, type: "object" },
    })),
    tool_choice: isSerial ? { ...choice, disable_parallel_tool_use: true } : choice,
  };
}

function mapToolChoice(choice: ToolChoice): AnthropicToolChoice {
  if (typeof choice !== "string") return { type: "tool", name: choice.name };
  return { type: choice === "required" ? "any" : choice };
}

type ErrorEvent = { type: "error"; error?: { type?: string; message?: string } };

/** The events of Anthropic's Messages API, whose end marker is `message_stop`. Usage in it is cumulative. */
export function createMessagesMapper(): EventMapper {
  const usage: Usage = { input_tokens: 0, output_tokens: 0 };
  let isUsageKnown = false;
  let reason: ModelFinishReason | null = null;
  const calls = createToolCalls();

  function finish(): MappedEvent {
    const counted = isUsageKnown ? usage : null;
    const toolCalls = calls.list();
    if (reason !== "tool_calls" || toolCalls.length === 0)
      return { type: "finish", reason: reason ?? "stop", usage: counted };
    return { type: "finish", reason, usage: counted, toolCalls };
  }

  function mapEvent(event: RawMessageStreamEvent | ErrorEvent): MappedEvent | null {
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
        if (event.content_block?.type === "tool_use") {
          const { id, name } = event.content_block;
          calls.add(event.index, { id, name, arguments: "" });
          return { type: "tool_call" };
        }
        return event.content_block?.type === "text" ? null : { type: "activity" };
      case "content_block_delta":
        if (event.delta?.type === "input_json_delta") {
          calls.add(event.index, { arguments: event.delta.partial_json });
          return { type: "tool_call" };
        }
        if (event.delta?.type !== "text_delta") return { type: "activity" };
        return event.delta.text ? { type: "text", text: event.delta.text } : null;
      case "message_delta":
        reason = mapStopReason(event.delta?.stop_reason ?? null) ?? reason;
        if (event.usage?.output_tokens) usage.output_tokens = event.usage.output_tokens;
        return isUsageKnown ? { type: "usage", usage: { ...usage } } : null;
      case "message_stop":
        return finish();
      case "error":
        return { type: "error", error: mapErrorEvent(event.error?.type ?? "error", event.error?.message ?? "", []) };
      default:
        return null;
    }
  }

  return { map: ({ data }) => mapEvent(JSON.parse(data) as RawMessageStreamEvent | ErrorEvent) };
}

function mapStopReason(reason: StopReason | null): ModelFinishReason | null {
  if (reason === null) return null;
  if (reason === "max_tokens" || reason === "model_context_window_exceeded") return "length";
  if (reason === "tool_use") return "tool_calls";
  return reason === "refusal" ? "content_filter" : "stop";
}
