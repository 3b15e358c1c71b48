import type { ResponseCreateParamsStreaming, ResponseInputItem } from "openai/resources/responses/responses";
import { mapOpenAiEffort } from "../../model-traits.ts";
import type { AnswerOptions, ProviderRequest } from "../../provider.ts";
import type { Thinker } from "../../thinking.ts";
import { mapToTurns, type Turn } from "../map-conversation.ts";
import { mapItems } from "./response-thinking.ts";

/**
 * Our request in the words of OpenAI's Responses API.
 * @param name of the provider: thinking of others is left out.
 * @param isForgetful leaves out its own as well.
 */
export function mapToResponsesRequest(
  request: ProviderRequest,
  name: string,
  isForgetful = false,
): ResponseCreateParamsStreaming {
  const thinker = isForgetful ? null : { provider: name, model: request.model };
  const { system, turns } = mapToTurns(request.messages, request.partial);
  return {
    model: request.model,
    input: turns.flatMap((turn) => mapTurn(turn, thinker)),
    stream: true,
    // The conversation is kept by Parley, not by the provider.
    store: false,
    ...(request.isThinking && mapReasoning(request)),
    ...(system === null ? {} : { instructions: system }),
    ...(request.outputTokensMax === null ? {} : { max_output_tokens: request.outputTokensMax }),
    ...mapOptions(request.options),
  };
}

function mapReasoning({ model, options }: ProviderRequest): Partial<ResponseCreateParamsStreaming> {
  const effort = options.reasoningEffort ? mapOpenAiEffort(model, options.reasoningEffort) : null;
  return {
    reasoning: {
      // Without it a model that thinks is silent until its answer begins.
      ...(effort !== "none" && { summary: "auto" as const }),
      ...(effort !== null && { effort }),
    },
    // What the model thinks has to come back with its calls, and nothing is stored there.
    ...(options.tools?.length && { include: ["reasoning.encrypted_content" as const] }),
  };
}

function mapTurn(turn: Turn, thinker: Thinker | null): ResponseInputItem[] {
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
  return (thinker && calls.length > 0 && mapItems(turn, thinker, message, calls)) || [...message, ...calls];
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
