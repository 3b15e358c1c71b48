import type {
  ResponseCreateParamsStreaming,
  ResponseFormatTextConfig,
  ResponseInputItem,
} from "openai/resources/responses/responses";
import { pickExtra } from "../../extra-fields.ts";
import { mapOpenAiEffort } from "../../model-traits.ts";
import type { AnswerFormat, AnswerOptions, ProviderRequest } from "../../provider.ts";
import type { Thinker } from "../../thinking.ts";
import { addInstructions, saysJson } from "../format-in-words.ts";
import { mapToTurns, type Turn } from "../map-conversation.ts";
import { mapItems } from "./response-thinking.ts";
import { fitsStrictMode } from "./strict-schema.ts";

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
  const { format } = request.options;
  const extra = mapExtra(request.options);
  const isUnsaid = format?.type === "json_object" && !saysJson(request);
  const messages = isUnsaid ? addInstructions(request.messages, format) : request.messages;
  const { system, turns } = mapToTurns(messages, request.partial);
  return {
    ...extra,
    model: request.model,
    input: turns.flatMap((turn) => mapTurn(turn, thinker)),
    stream: true,
    // The conversation is kept by Parley, not by the provider.
    store: false,
    ...(request.isThinking && mapReasoning(request)),
    ...(system === null ? {} : { instructions: system }),
    ...(request.outputTokensMax === null ? {} : { max_output_tokens: request.outputTokensMax }),
    ...(format && { text: { ...extra.text, format: mapFormat(format) } }),
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

function mapFormat(format: AnswerFormat): ResponseFormatTextConfig {
  if (format.type === "json_object") return format;
  const { name, description, schema, isStrict } = format;
  return {
    type: "json_schema",
    name,
    ...(description !== undefined && { description }),
    schema: { ...schema },
    strict: isStrict ?? fitsStrictMode(schema),
  };
}

/** By the names that Chat Completions have for them, but for this one. */
function mapExtra({ extra }: AnswerOptions): Partial<ResponseCreateParamsStreaming> {
  const { verbosity, ...others } = pickExtra("responses", extra);
  return { ...others, ...(verbosity && { text: { verbosity } }) };
}

/** The Responses API knows no `stop`: the attempt ends the answer there. */
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
