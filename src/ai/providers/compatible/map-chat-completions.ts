import type {
  ChatCompletionAssistantMessageParam,
  ChatCompletionCreateParamsStreaming,
  ChatCompletionMessageParam,
} from "openai/resources/chat/completions";
import { pickExtraFields } from "../../extra-fields.ts";
import type { AnswerFormat, AnswerOptions, ProviderRequest } from "../../provider.ts";
import type { ThinkingSource } from "../../thinking.ts";
import { addFormatInstructions, mentionsJson } from "../format-in-words.ts";
import { mapToTurns, type Turn } from "../map-conversation.ts";
import { supportsStrictMode } from "../openai/strict-schema.ts";
import { mapChatEffort } from "./chat-effort.ts";
import { addThinking } from "./chat-thinking.ts";

/**
 * Maps a request to Chat Completions, using only fields that local servers support.
 * @param providerName the provider's name. Other providers' thinking is omitted.
 * @param shouldOmitThinking whether to omit all thinking.
 */
export function mapToChatRequest(
  request: ProviderRequest,
  providerName: string,
  shouldOmitThinking = false,
): ChatCompletionCreateParamsStreaming {
  const thinkingSource = shouldOmitThinking ? null : { provider: providerName, model: request.model };
  const { format, tools = [], toolChoice } = request.options;
  // Most servers can't combine a format with tools: they reject the request, or the model never calls a tool.
  const canCallTools = tools.length > 0 && toolChoice !== "none";
  const needsInstructions = format && (canCallTools || (format.type === "json_object" && !mentionsJson(request)));
  const messages = needsInstructions ? addFormatInstructions(request.messages, format) : request.messages;
  const { system, turns } = mapToTurns(messages, request.partial);
  return {
    ...pickExtraFields("chat", request.options.extra),
    model: request.model,
    messages: [
      ...(system === null ? [] : [{ role: "system" as const, content: system }]),
      ...turns.flatMap((turn) => mapTurn(turn, thinkingSource)),
    ],
    stream: true,
    stream_options: { include_usage: true },
    ...(request.outputTokensMax === null ? {} : { max_tokens: request.outputTokensMax }),
    ...mapChatEffort(request.model, request.canThink ? (request.options.reasoningEffort ?? null) : null),
    ...mapOptions(format && !canCallTools ? { ...request.options, tools: [] } : request.options),
    ...(format && !canCallTools && { response_format: mapFormat(format) }),
  };
}

function mapTurn(turn: Turn, thinkingSource: ThinkingSource | null): ChatCompletionMessageParam[] {
  if (turn.role === "tool")
    return turn.results.map(({ callId, content }) => ({ role: "tool", tool_call_id: callId, content }));
  if (turn.role === "user") return [{ role: turn.role, content: turn.content }];
  const message = mapAssistantTurn(turn);
  return [thinkingSource ? addThinking(message, turn, thinkingSource) : message];
}

function mapAssistantTurn(turn: Extract<Turn, { role: "assistant" }>): ChatCompletionAssistantMessageParam {
  if (turn.toolCalls.length === 0) return { role: "assistant", content: turn.content };
  const calls = turn.toolCalls.map(({ id, name, arguments: text }) => ({
    id,
    type: "function" as const,
    function: { name, arguments: text },
  }));
  return { role: "assistant", content: turn.content === "" ? null : turn.content, tool_calls: calls };
}

function mapFormat(format: AnswerFormat): NonNullable<ChatCompletionCreateParamsStreaming["response_format"]> {
  if (format.type === "json_object") return format;
  const { name, description, schema, isStrict } = format;
  return {
    type: "json_schema",
    json_schema: {
      name,
      ...(description !== undefined && { description }),
      schema: { ...schema },
      strict: isStrict ?? supportsStrictMode(schema),
    },
  };
}

function mapOptions(options: AnswerOptions): Partial<ChatCompletionCreateParamsStreaming> {
  const { tools = [], toolChoice, temperature, topP, stop = [], canCallToolsInParallel } = options;
  const commonFields = {
    ...(typeof temperature === "number" && { temperature }),
    ...(typeof topP === "number" && { top_p: topP }),
    ...(stop.length > 0 && { stop: [...stop] }),
  };
  if (tools.length === 0) return commonFields;
  return {
    ...commonFields,
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
    ...(typeof canCallToolsInParallel === "boolean" && { parallel_tool_calls: canCallToolsInParallel }),
  };
}
