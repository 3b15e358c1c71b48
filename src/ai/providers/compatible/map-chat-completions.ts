import type {
  ChatCompletionChunk,
  ChatCompletionCreateParamsStreaming,
  ChatCompletionMessageParam,
} from "openai/resources/chat/completions";
import type { AnswerOptions, ModelFinishReason, ProviderEnd, ProviderRequest, Usage } from "../../provider.ts";
import { mapErrorEvent } from "../../provider-error.ts";
import { mapToTurns, type Turn } from "../map-conversation.ts";
import type { EventMapper, MappedEvent } from "../stream-answer.ts";
import { createToolCalls } from "../tool-calls.ts";

/** Our request in the words of Chat Completions, without anything that local servers might not know. */
export function mapToChatRequest(request: ProviderRequest): ChatCompletionCreateParamsStreaming {
  const { system, turns } = mapToTurns(request.messages, request.partial);
  return {
    model: request.model,
    messages: [...(system === null ? [] : [{ role: "system" as const, content: system }]), ...turns.flatMap(mapTurn)],
    stream: true,
    stream_options: { include_usage: true },
    ...(request.outputTokensMax === null ? {} : { max_tokens: request.outputTokensMax }),
    ...mapOptions(request.options),
  };
}

function mapTurn(turn: Turn): ChatCompletionMessageParam[] {
  if (turn.role === "tool")
    return turn.results.map(({ callId, content }) => ({ role: "tool", tool_call_id: callId, content }));
  if (turn.role === "user" || turn.toolCalls.length === 0) return [{ role: turn.role, content: turn.content }];
  const calls = turn.toolCalls.map(({ id, name, arguments: text }) => ({
    id,
    type: "function" as const,
    function: { name, arguments: text },
  }));
  return [{ role: "assistant", content: turn.content === "" ? null : turn.content, tool_calls: calls }];
}

function mapOptions(options: AnswerOptions): Partial<ChatCompletionCreateParamsStreaming> {
  const { tools = [], toolChoice, temperature, topP, stop = [], areParallelToolCallsAllowed } = options;
  const shared = {
    ...(typeof temperature === "number" && { temperature }),
    ...(typeof topP === "number" && { top_p: topP }),
    ...(stop.length > 0 && { stop: [...stop] }),
  };
  if (tools.length === 0) return shared;
  return {
    ...shared,
    tools: tools.map(({ name, description, parameters, isStrict }) => ({
      type: "function",
      function: {
        name,
        ...(description !== null && { description }),
        parameters: { ...parameters },
        ...(isStrict !== undefined && { strict: isStrict }),
      },
    })),
    ...(toolChoice && {
      tool_choice: typeof toolChoice === "string" ? toolChoice : { type: "function", function: toolChoice },
    }),
    ...(typeof areParallelToolCallsAllowed === "boolean" && { parallel_tool_calls: areParallelToolCallsAllowed }),
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
  let reason: ModelFinishReason | null = null;
  let usage: Usage | null = null;
  const calls = createToolCalls();
  // By index, the id of the call that is being written there: some servers give all calls the same index.
  const callIds = new Map<number, string>();

  function takeCall({ index = 0, id, function: called }: ChatCompletionChunk.Choice.Delta.ToolCall): void {
    if (id) callIds.set(index, id);
    calls.add(callIds.get(index) ?? index, { id, name: called?.name, arguments: called?.arguments });
  }

  function finish(): ProviderEnd {
    const toolCalls = calls.list();
    // Cut off in the middle of a call, which nobody may carry out.
    if (reason === "length" || reason === "content_filter" || toolCalls.length === 0)
      return { type: "finish", reason: reason ?? "stop", usage };
    return { type: "finish", reason: "tool_calls", usage, toolCalls };
  }

  function mapChunk(chunk: ChatCompletionChunk & ErrorChunk): MappedEvent | null {
    if (chunk.error) return mapChunkError(chunk.error);
    if (chunk.usage)
      usage = { input_tokens: chunk.usage.prompt_tokens ?? 0, output_tokens: chunk.usage.completion_tokens ?? 0 };
    const choice = chunk.choices?.[0];
    if (!choice) return null;
    if (choice.finish_reason) reason = mapFinishReason(choice.finish_reason);
    const delta: Delta = choice.delta ?? {};
    for (const call of delta.tool_calls ?? []) takeCall(call);
    const text = delta.content || delta.refusal;
    if (typeof text === "string" && text !== "") return { type: "text", text };
    if (delta.tool_calls?.length || delta.function_call) return { type: "tool_call" };
    return delta.reasoning_content || delta.reasoning ? { type: "activity" } : null;
  }

  return {
    map({ data }) {
      if (data.trim() === "[DONE]") return finish();
      // Some servers keep a connection open by empty events.
      return data.trim() === "" ? null : mapChunk(JSON.parse(data) as ChatCompletionChunk & ErrorChunk);
    },
    isComplete: () => reason !== null,
    end: () => (reason === null ? null : finish()),
  };
}

function mapChunkError(error: NonNullable<ErrorChunk["error"]>): MappedEvent {
  if (typeof error === "string") return { type: "error", error: mapErrorEvent("error", error, []) };
  const name = error.code ?? error.type ?? "error";
  return { type: "error", error: mapErrorEvent(String(name), error.message ?? "", []) };
}

function mapFinishReason(reason: string): ModelFinishReason {
  if (reason === "length" || reason === "content_filter") return reason;
  return reason === "tool_calls" || reason === "function_call" ? "tool_calls" : "stop";
}
