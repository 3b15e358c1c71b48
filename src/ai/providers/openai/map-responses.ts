import type { ResponseCreateParamsStreaming, ResponseInputItem } from "openai/resources/responses/responses";
import type { AnswerOptions, ProviderRequest } from "../../provider.ts";
import { mapToTurns, type Turn } from "../map-conversation.ts";

/** Our request in the words of OpenAI's Responses API. */
export function mapToResponsesRequest(request: ProviderRequest): ResponseCreateParamsStreaming {
  const { system, turns } = mapToTurns(request.messages, request.partial);
  return {
    model: request.model,
    input: turns.flatMap(mapTurn),
    stream: true,
    // The conversation is kept by Parley, not by the provider.
    store: false,
    // Without it a model that thinks is silent until its answer begins.
    ...(request.isThinking && request.asksForReasoning !== false && { reasoning: { summary: "auto" as const } }),
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
