import type {
  ResponseCreateParamsStreaming,
  ResponseFormatTextConfig,
  ResponseInputItem,
} from "openai/resources/responses/responses";
import { pickExtraFields } from "../../extra-fields.ts";
import { mapOpenAiEffort } from "../../model-traits.ts";
import type { AnswerFormat, AnswerOptions, ProviderRequest } from "../../provider.ts";
import type { ThinkingSource } from "../../thinking.ts";
import { addFormatInstructions, mentionsJson } from "../format-in-words.ts";
import { mapToTurns, type Turn } from "../map-conversation.ts";
import { restoreItems } from "./response-thinking.ts";
import { supportsStrictMode } from "./strict-schema.ts";

/**
 * Maps a request to OpenAI's Responses API.
 * @param providerName the provider's name. Other providers' thinking is omitted.
 * @param shouldOmitThinking whether to omit all thinking.
 */
export function mapToResponsesRequest(
  request: ProviderRequest,
  providerName: string,
  shouldOmitThinking = false,
): ResponseCreateParamsStreaming {
  const thinkingSource = shouldOmitThinking ? null : { provider: providerName, model: request.model };
  const { format } = request.options;
  const extra = mapExtra(request.options);
  const needsInstructions = format?.type === "json_object" && !mentionsJson(request);
  const messages = needsInstructions ? addFormatInstructions(request.messages, format) : request.messages;
  const { system, turns } = mapToTurns(messages, request.partial);
  return {
    ...extra,
    model: request.model,
    input: turns.flatMap((turn) => mapTurn(turn, thinkingSource)),
    stream: true,
    // Parley stores the conversation itself.
    store: false,
    ...(request.canThink && mapReasoning(request)),
    ...(system === null ? {} : { instructions: system }),
    ...(request.outputTokensMax === null ? {} : { max_output_tokens: request.outputTokensMax }),
    ...(format && { text: { ...extra.text, format: mapFormat(format) } }),
    ...mapOptions(request.options),
  };
}

function mapReasoning({
  model,
  options,
  shouldRequestReasoning = true,
}: ProviderRequest): Partial<ResponseCreateParamsStreaming> {
  const effort = options.reasoningEffort ? mapOpenAiEffort(model, options.reasoningEffort) : null;
  // Without a summary, a thinking model sends nothing until its answer starts.
  const hasSummary = shouldRequestReasoning && effort !== "none";
  return {
    ...((hasSummary || effort !== null) && {
      reasoning: { ...(hasSummary && { summary: "auto" as const }), ...(effort !== null && { effort }) },
    }),
    // The model's thinking has to be sent back with its calls, because the provider doesn't store it.
    ...(options.tools?.length && { include: ["reasoning.encrypted_content" as const] }),
  };
}

function mapTurn(turn: Turn, thinkingSource: ThinkingSource | null): ResponseInputItem[] {
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
  return (
    (thinkingSource && calls.length > 0 && restoreItems(turn, thinkingSource, message, calls)) || [...message, ...calls]
  );
}

function mapFormat(format: AnswerFormat): ResponseFormatTextConfig {
  if (format.type === "json_object") return format;
  const { name, description, schema, isStrict } = format;
  return {
    type: "json_schema",
    name,
    ...(description !== undefined && { description }),
    schema: { ...schema },
    strict: isStrict ?? supportsStrictMode(schema),
  };
}

/** Maps the extra fields. Only `verbosity` isn't a top-level field in the Responses API. */
function mapExtra({ extra }: AnswerOptions): Partial<ResponseCreateParamsStreaming> {
  const { verbosity, ...topLevelFields } = pickExtraFields("responses", extra);
  return { ...topLevelFields, ...(verbosity && { text: { verbosity } }) };
}

/** Maps the options. The Responses API doesn't support `stop`, so src/ai/attempt applies the stop sequences. */
function mapOptions(options: AnswerOptions): Partial<ResponseCreateParamsStreaming> {
  const { tools = [], toolChoice, temperature, topP, canCallToolsInParallel } = options;
  const commonFields = {
    ...(typeof temperature === "number" && { temperature }),
    ...(typeof topP === "number" && { top_p: topP }),
  };
  if (tools.length === 0) return commonFields;
  return {
    ...commonFields,
    tools: tools.map(({ name, description, parameters, isStrict }) => ({
      type: "function",
      name,
      description,
      parameters: { ...parameters },
      // The API's default is true.
      strict: isStrict ?? false,
    })),
    ...(toolChoice && {
      tool_choice: typeof toolChoice === "string" ? toolChoice : { type: "function", ...toolChoice },
    }),
    ...(typeof canCallToolsInParallel === "boolean" && { parallel_tool_calls: canCallToolsInParallel }),
  };
}
