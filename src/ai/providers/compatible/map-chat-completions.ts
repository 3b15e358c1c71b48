import type {
  ChatCompletionCreateParamsStreaming,
  ChatCompletionMessageParam,
} from "openai/resources/chat/completions";
import type { AnswerFormat, AnswerOptions, ProviderRequest } from "../../provider.ts";
import { addInstructions, saysJson } from "../format-in-words.ts";
import { mapToTurns, type Turn } from "../map-conversation.ts";
import { fitsStrictMode } from "../openai/strict-schema.ts";

/** Our request in the words of Chat Completions, without anything that local servers might not know. */
export function mapToChatRequest(request: ProviderRequest): ChatCompletionCreateParamsStreaming {
  const { format, tools = [], toolChoice } = request.options;
  // Most servers that force a format into the answer refuse tools beside it, or never call them.
  const mayCall = tools.length > 0 && toolChoice !== "none";
  const isInWords = format && (mayCall || (format.type === "json_object" && !saysJson(request)));
  const messages = isInWords ? addInstructions(request.messages, format) : request.messages;
  const { system, turns } = mapToTurns(messages, request.partial);
  return {
    model: request.model,
    messages: [...(system === null ? [] : [{ role: "system" as const, content: system }]), ...turns.flatMap(mapTurn)],
    stream: true,
    stream_options: { include_usage: true },
    ...(request.outputTokensMax === null ? {} : { max_tokens: request.outputTokensMax }),
    ...mapOptions(format && !mayCall ? { ...request.options, tools: [] } : request.options),
    ...(format && !mayCall && { response_format: mapFormat(format) }),
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

function mapFormat(format: AnswerFormat): NonNullable<ChatCompletionCreateParamsStreaming["response_format"]> {
  if (format.type === "json_object") return format;
  const { name, description, schema, isStrict } = format;
  return {
    type: "json_schema",
    json_schema: {
      name,
      ...(description !== undefined && { description }),
      schema: { ...schema },
      strict: isStrict ?? fitsStrictMode(schema),
    },
  };
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
