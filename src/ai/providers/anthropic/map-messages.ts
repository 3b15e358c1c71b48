import type {
  ToolChoice as AnthropicToolChoice,
  ContentBlockParam,
  MessageCreateParamsStreaming,
  MessageParam,
} from "@anthropic-ai/sdk/resources/messages/messages";
import { pickExtraFields } from "../../extra-fields.ts";
import type { AnswerOptions, ProviderRequest, ToolChoice } from "../../provider.ts";
import type { ThinkingSource } from "../../thinking.ts";
import { addFormatInstructions } from "../format-in-words.ts";
import { mapToTurns, type Turn } from "../map-conversation.ts";
import { markStablePrefix } from "./cache.ts";
import { mapToClaudeSchema } from "./map-format.ts";
import { findThinkingBlocks, mapBlocks } from "./thinking-blocks.ts";
import { acceptsThinkingBlocks, mapEffort } from "./thinking-config.ts";

/** Default maximum answer length including thinking. The Messages API requires a number. */
const OUTPUT_TOKENS_DEFAULT = 16_384;

/**
 * Maps a request to Anthropic's Messages API.
 * @param providerName the provider's name. Other providers' thinking is omitted.
 * @param shouldOmitThinking whether to omit all thinking.
 */
export function mapToMessagesRequest(
  request: ProviderRequest,
  providerName: string,
  shouldOmitThinking = false,
): MessageCreateParamsStreaming {
  const { model, options } = request;
  const { format } = options;
  const schema = format ? mapToClaudeSchema(format) : null;
  const messages = format && !schema ? addFormatInstructions(request.messages, format) : request.messages;
  const { system, turns } = mapToTurns(messages, request.partial);
  const maxTokens =
    request.outputTokensMax ?? Math.min(OUTPUT_TOKENS_DEFAULT, request.answerTokensMax ?? OUTPUT_TOKENS_DEFAULT);
  const thinkingSource = { provider: providerName, model };
  const config = mapEffort(model, request.canThink ? (options.reasoningEffort ?? null) : null, {
    maxTokens,
    isReasoningRequested: request.shouldRequestReasoning ?? true,
    isCallForced:
      typeof options.toolChoice === "object" ? options.toolChoice !== null : options.toolChoice === "required",
    hasLoopThinking: !shouldOmitThinking && hasThinkingAtLoopStart(turns, thinkingSource),
  });
  // A model that is configured to think rejects temperature and top_p. For a model that always thinks, the parameter adapter
  // removes them after the model has rejected them once.
  const samplingOptions = config.thinking && options.reasoningEffort ? { temperature: null, topP: null } : {};
  return markStablePrefix({
    ...pickExtraFields("messages", options.extra),
    model,
    max_tokens: maxTokens,
    messages: mapTurns(turns, shouldOmitThinking || !acceptsThinkingBlocks(model, config) ? null : thinkingSource),
    stream: true,
    ...(system === null ? {} : { system }),
    ...config,
    ...(schema && { output_config: { ...config.output_config, format: { type: "json_schema" as const, schema } } }),
    ...mapOptions({ ...options, ...samplingOptions }),
  });
}

/**
 * Whether the current tool loop began with this model's thinking, which the API requires if there is a thinking budget.
 * Later turns may have no thinking, because models with a budget think only before their first call.
 */
function hasThinkingAtLoopStart(turns: readonly Turn[], thinkingSource: ThinkingSource): boolean {
  const lastUserTurn = turns.findLastIndex(({ role }, index) => role === "user" && turns[index - 1]?.role !== "tool");
  const firstAnswer = turns.slice(lastUserTurn).find((turn) => turn.role === "assistant");
  if (!firstAnswer) return true;
  const [firstBlock] = findThinkingBlocks(firstAnswer, thinkingSource);
  return firstBlock?.type === "thinking" || firstBlock?.type === "redacted_thinking";
}

/** Maps the turns. In this API, tool results are part of the user's turn, before the text. */
function mapTurns(turns: readonly Turn[], thinkingSource: ThinkingSource | null): MessageParam[] {
  const messages: MessageParam[] = [];
  for (const turn of turns) {
    const role = turn.role === "assistant" ? "assistant" : "user";
    const content = mapTurn(turn, thinkingSource);
    const lastMessage = messages.at(-1);
    if (lastMessage?.role === role) lastMessage.content = [...toBlocks(lastMessage.content), ...toBlocks(content)];
    else messages.push({ role, content });
  }
  return messages;
}

const toBlocks = (content: string | ContentBlockParam[]): ContentBlockParam[] =>
  typeof content === "string" ? [{ type: "text", text: content }] : content;

function mapTurn(turn: Turn, thinkingSource: ThinkingSource | null): string | ContentBlockParam[] {
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
  const text = turn.content.trim() === "" ? [] : [{ type: "text" as const, text: turn.content }];
  const blocks = thinkingSource ? findThinkingBlocks(turn, thinkingSource) : [];
  if (blocks.length === 0) return [...text, ...calls];
  const callsById = new Map(calls.map((call, index) => [turn.toolCalls[index]?.id ?? "", call]));
  return mapBlocks(blocks, text, callsById, turn.content);
}

/** Replaces characters in other providers' call ids that this API rejects. */
const mapCallId = (id: string): string => id.replace(/[^\w-]/g, "_");

/** Parses arguments. The API only accepts objects, so invalid arguments are wrapped in one. */
function parseArguments(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch {
    // Invalid JSON.
  }
  return { arguments: text };
}

/** Maximum temperature in this API. In most others, it is 2. */
const TEMPERATURE_MAX = 1;

function mapOptions(options: AnswerOptions): Partial<MessageCreateParamsStreaming> {
  const { tools = [], toolChoice, temperature, topP, stop = [], canCallToolsInParallel } = options;
  const commonFields = {
    ...(typeof temperature === "number" && { temperature: Math.min(temperature, TEMPERATURE_MAX) }),
    ...(typeof topP === "number" && { top_p: topP }),
    ...(stop.length > 0 && { stop_sequences: [...stop] }),
  };
  if (tools.length === 0) return commonFields;
  const choice = mapToolChoice(toolChoice ?? "auto");
  const isSerial = canCallToolsInParallel === false && choice.type !== "none";
  return {
    ...commonFields,
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
