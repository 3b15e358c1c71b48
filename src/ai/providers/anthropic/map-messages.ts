import type {
  ToolChoice as AnthropicToolChoice,
  ContentBlockParam,
  MessageCreateParamsStreaming,
  MessageParam,
} from "@anthropic-ai/sdk/resources/messages/messages";
import { pickExtra } from "../../extra-fields.ts";
import type { AnswerOptions, ProviderRequest, ToolChoice } from "../../provider.ts";
import type { ThinkingSource } from "../../thinking.ts";
import { addInstructions } from "../format-in-words.ts";
import { mapToTurns, type Turn } from "../map-conversation.ts";
import { markStablePrefix } from "./cache.ts";
import { mapToClaudeSchema } from "./map-format.ts";
import { findBlocks, mapBlocks } from "./thinking-blocks.ts";
import { mapEffort, takesBlocks } from "./thinking-config.ts";

/** Default maximum answer length, because the Messages API requires a number. Thinking counts towards it. */
const OUTPUT_TOKENS_DEFAULT = 16_384;

/**
 * Maps a request to Anthropic's Messages API.
 * @param name the provider; thinking of other providers is omitted.
 * @param isForgetful omits its own thinking as well.
 */
export function mapToMessagesRequest(
  request: ProviderRequest,
  name: string,
  isForgetful = false,
): MessageCreateParamsStreaming {
  const { model, options } = request;
  const { format } = options;
  const schema = format ? mapToClaudeSchema(format) : null;
  const messages = format && !schema ? addInstructions(request.messages, format) : request.messages;
  const { system, turns } = mapToTurns(messages, request.partial);
  const maxTokens =
    request.outputTokensMax ?? Math.min(OUTPUT_TOKENS_DEFAULT, request.answerTokensMax ?? OUTPUT_TOKENS_DEFAULT);
  const thinker = { provider: name, model };
  const config = mapEffort(model, request.isThinking ? (options.reasoningEffort ?? null) : null, {
    maxTokens,
    isAsked: request.asksForReasoning ?? true,
    isCallForced:
      typeof options.toolChoice === "object" ? options.toolChoice !== null : options.toolChoice === "required",
    isLoopThinking: !isForgetful && isLoopThinking(turns, thinker),
  });
  // A model that is instructed to think rejects both; for one that always thinks, this is learned from its error.
  const sampling = config.thinking && options.reasoningEffort ? { temperature: null, topP: null } : {};
  return markStablePrefix({
    ...pickExtra("messages", options.extra),
    model,
    max_tokens: maxTokens,
    messages: mapTurns(turns, isForgetful || !takesBlocks(model, config) ? null : thinker),
    stream: true,
    ...(system === null ? {} : { system }),
    ...config,
    ...(schema && { output_config: { ...config.output_config, format: { type: "json_schema" as const, schema } } }),
    ...mapOptions({ ...options, ...sampling }),
  });
}

/**
 * Whether the current tool loop began with thinking of this model, which the API requires with a thinking budget. Later
 * turns may have none, since such models only think before their first call.
 */
function isLoopThinking(turns: readonly Turn[], thinker: ThinkingSource): boolean {
  const lastUserTurn = turns.findLastIndex(({ role }, index) => role === "user" && turns[index - 1]?.role !== "tool");
  const begin = turns.slice(lastUserTurn).find((turn) => turn.role === "assistant");
  if (!begin) return true;
  const [first] = findBlocks(begin, thinker);
  return first?.type === "thinking" || first?.type === "redacted_thinking";
}

/** In this API, tool results are part of the user turn, before the user's text. */
function mapTurns(turns: readonly Turn[], thinker: ThinkingSource | null): MessageParam[] {
  const messages: MessageParam[] = [];
  for (const turn of turns) {
    const role = turn.role === "assistant" ? "assistant" : "user";
    const content = mapTurn(turn, thinker);
    const last = messages.at(-1);
    if (last?.role === role) last.content = [...toBlocks(last.content), ...toBlocks(content)];
    else messages.push({ role, content });
  }
  return messages;
}

const toBlocks = (content: string | ContentBlockParam[]): ContentBlockParam[] =>
  typeof content === "string" ? [{ type: "text", text: content }] : content;

function mapTurn(turn: Turn, thinker: ThinkingSource | null): string | ContentBlockParam[] {
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
  const blocks = thinker ? findBlocks(turn, thinker) : [];
  if (blocks.length === 0) return [...text, ...calls];
  const byId = new Map(calls.map((call, index) => [turn.toolCalls[index]?.id ?? "", call]));
  return mapBlocks(blocks, text, byId, turn.content);
}

/** Call ids of other providers may contain characters that this API rejects. */
const mapCallId = (id: string): string => id.replace(/[^\w-]/g, "_");

/** The API accepts only objects; malformed arguments are shown to the model as written. */
function parseArguments(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch {
    // It isn't JSON.
  }
  return { arguments: text };
}

/** The maximum here is half of that in other APIs. */
const TEMPERATURE_MAX = 1;

function mapOptions(options: AnswerOptions): Partial<MessageCreateParamsStreaming> {
  const { tools = [], toolChoice, temperature, topP, stop = [], areParallelToolCallsAllowed } = options;
  const shared = {
    ...(typeof temperature === "number" && { temperature: Math.min(temperature, TEMPERATURE_MAX) }),
    ...(typeof topP === "number" && { top_p: topP }),
    ...(stop.length > 0 && { stop_sequences: [...stop] }),
  };
  if (tools.length === 0) return shared;
  const choice = mapToolChoice(toolChoice ?? "auto");
  const isSerial = areParallelToolCallsAllowed === false && choice.type !== "none";
  return {
    ...shared,
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
