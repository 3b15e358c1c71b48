import type {
  ResponseCreateParamsStreaming,
  ResponseFormatTextConfig,
  ResponseInputItem,
} from "openai/resources/responses/responses";
import { pickExtra } from "../../extra-fields.ts";
import { mapOpenAiEffort } from "../../model-traits.ts";
import type { AnswerFormat, AnswerOptions, ProviderRequest } from "../../provider.ts";
import type { ThinkingSource } from "../../thinking.ts";
import { addInstructions, mentionsJson } from "../format-in-words.ts";
import { mapToTurns, type Turn } from "../map-conversation.ts";
import { mapItems } from "./response-thinking.ts";
import { fitsStrictMode } from "./strict-schema.ts";

/**
 * Maps a request to OpenAI's Responses API.
 * @param name the provider; thinking of other providers is omitted.
 * @param isForgetful omits its own thinking as well.
 */
export function mapToResponsesRequest(
  request: ProviderRequest,
  name: string,
  isForgetful = false,
): ResponseCreateParamsStreaming {
  const thinker = isForgetful ? null : { provider: name, model: request.model };
  const { format } = request.options;
  const extra = mapExtra(request.options);
  const isUnsaid = format?.type === "json_object" && !mentionsJson(request);
  const messages = isUnsaid ? addInstructions(request.messages, format) : request.messages;
  const { system, turns } = mapToTurns(messages, request.partial);
  return {
    ...extra,
    model: request.model,
    input: turns.flatMap((turn) => mapTurn(turn, thinker)),
    stream: true,
    // Parley stores the conversation, not the provider.
    store: false,
    ...(request.isThinking && mapReasoning(request)),
    ...(system === null ? {} : { instructions: system }),
    ...(request.outputTokensMax === null ? {} : { max_output_tokens: request.outputTokensMax }),
    ...(format && { text: { ...extra.text, format: mapFormat(format) } }),
    ...mapOptions(request.options),
  };
}

function mapReasoning({
  model,
  options,
  asksForReasoning = true,
}: ProviderRequest): Partial<ResponseCreateParamsStreaming> {
  const effort = options.reasoningEffort ? mapOpenAiEffort(model, options.reasoningEffort) : null;
  // Without it a thinking model is silent until its answer starts.
  const hasSummary = asksForReasoning && effort !== "none";
  return {
    ...((hasSummary || effort !== null) && {
      reasoning: { ...(hasSummary && { summary: "auto" as const }), ...(effort !== null && { effort }) },
    }),
    // The model's thinking has to be returned with its calls, and the provider stores nothing.
    ...(options.tools?.length && { include: ["reasoning.encrypted_content" as const] }),
  };
}

function mapTurn(turn: Turn, thinker: ThinkingSource | null): ResponseInputItem[] {
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

/** The names are those of Chat Completions, except for one. */
function mapExtra({ extra }: AnswerOptions): Partial<ResponseCreateParamsStreaming> {
  const { verbosity, ...others } = pickExtra("responses", extra);
  return { ...others, ...(verbosity && { text: { verbosity } }) };
}

/** The Responses API has no `stop`: the attempt applies it. */
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
      // Always sent: the API's default is true.
      strict: isStrict ?? false,
    })),
    ...(toolChoice && {
      tool_choice: typeof toolChoice === "string" ? toolChoice : { type: "function", ...toolChoice },
    }),
    ...(typeof areParallelToolCallsAllowed === "boolean" && { parallel_tool_calls: areParallelToolCallsAllowed }),
  };
}
