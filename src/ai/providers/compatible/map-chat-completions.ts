import type {
  ChatCompletionAssistantMessageParam,
  ChatCompletionCreateParamsStreaming,
  ChatCompletionMessageParam,
} from "openai/resources/chat/completions";
import type { AnswerOptions, ProviderRequest } from "../../provider.ts";
import type { Thinker } from "../../thinking.ts";
import { mapToTurns, type Turn } from "../map-conversation.ts";
import { mapChatEffort } from "./chat-effort.ts";
import { addThinking } from "./chat-thinking.ts";

/**
 * Our request in the words of Chat Completions, without anything that local servers might not know.
 * @param name of the provider: thinking of others is left out.
 * @param isForgetful leaves out its own as well.
 */
export function mapToChatRequest(
  request: ProviderRequest,
  name: string,
  isForgetful = false,
): ChatCompletionCreateParamsStreaming {
  const thinker = isForgetful ? null : { provider: name, model: request.model };
  const { system, turns } = mapToTurns(request.messages, request.partial);
  return {
    model: request.model,
    messages: [
      ...(system === null ? [] : [{ role: "system" as const, content: system }]),
      ...turns.flatMap((turn) => mapTurn(turn, thinker)),
    ],
    stream: true,
    stream_options: { include_usage: true },
    ...(request.outputTokensMax === null ? {} : { max_tokens: request.outputTokensMax }),
    ...mapChatEffort(request.model, request.isThinking ? (request.options.reasoningEffort ?? null) : null),
    ...mapOptions(request.options),
  };
}

function mapTurn(turn: Turn, thinker: Thinker | null): ChatCompletionMessageParam[] {
  if (turn.role === "tool")
    return turn.results.map(({ callId, content }) => ({ role: "tool", tool_call_id: callId, content }));
  if (turn.role === "user") return [{ role: turn.role, content: turn.content }];
  const message = mapAssistant(turn);
  return [thinker ? addThinking(message, turn, thinker) : message];
}

function mapAssistant(turn: Extract<Turn, { role: "assistant" }>): ChatCompletionAssistantMessageParam {
  if (turn.toolCalls.length === 0) return { role: "assistant", content: turn.content };
  const calls = turn.toolCalls.map(({ id, name, arguments: text }) => ({
    id,
    type: "function" as const,
    function: { name, arguments: text },
  }));
  return { role: "assistant", content: turn.content === "" ? null : turn.content, tool_calls: calls };
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
