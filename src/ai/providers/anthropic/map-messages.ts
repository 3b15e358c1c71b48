import type {
  ToolChoice as AnthropicToolChoice,
  ContentBlockParam,
  MessageCreateParamsStreaming,
  MessageParam,
} from "@anthropic-ai/sdk/resources/messages/messages";
import { pickExtra } from "../../extra-fields.ts";
import type { AnswerOptions, ProviderRequest, ToolChoice } from "../../provider.ts";
import type { Thinker } from "../../thinking.ts";
import { addInstructions } from "../format-in-words.ts";
import { mapToTurns, type Turn } from "../map-conversation.ts";
import { markStablePrefix } from "./cache.ts";
import { mapToClaudeSchema } from "./map-format.ts";
import { findBlocks, mapBlocks } from "./thinking-blocks.ts";
import { mapEffort, takesBlocks } from "./thinking-config.ts";

/** Most tokens of an answer where none are asked for: the Messages API wants a number. Thinking counts in it. */
const OUTPUT_TOKENS_DEFAULT = 16_384;

/**
 * Our request in the words of Anthropic's Messages API.
 * @param name of the provider: thinking of others is left out.
 * @param isForgetful leaves out its own as well.
 */
export function mapToMessagesRequest(
  request: ProviderRequest,
  name: string,
  isForgetful = false,
): MessageCreateParamsStreaming {
  const { model, options } = request;
  const { format } = options;
  const schema = format ? mapToClaudeSchema(format) : null;
  const asked = format && !schema ? addInstructions(request.messages, format) : request.messages;
  const { system, turns } = mapToTurns(asked, request.partial);
  const maxTokens =
    request.outputTokensMax ?? Math.min(OUTPUT_TOKENS_DEFAULT, request.answerTokensMax ?? OUTPUT_TOKENS_DEFAULT);
  const thinker = { provider: name, model };
  const config = mapEffort(model, request.isThinking ? (options.reasoningEffort ?? null) : null, {
    maxTokens,
    isCallForced:
      typeof options.toolChoice === "object" ? options.toolChoice !== null : options.toolChoice === "required",
    isLoopThinking: !isForgetful && isLoopThinking(turns, thinker),
  });
  // A model that is set to think refuses both.
  const sampling = config.thinking ? { temperature: null, topP: null } : {};
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
 * Whether the loop that goes on has begun with thinking of this model: with a budget, that is what the API wants to see first.
 * Later turns of it may have none, since such models only think before their first call.
 */
function isLoopThinking(turns: readonly Turn[], thinker: Thinker): boolean {
  const asked = turns.findLastIndex(({ role }, index) => role === "user" && turns[index - 1]?.role !== "tool");
  const begin = turns.slice(asked).find((turn) => turn.role === "assistant");
  if (!begin) return true;
  const [first] = findBlocks(begin, thinker);
  return first?.type === "thinking" || first?.type === "redacted_thinking";
}

/** Results of tools are part of a user's turn here, in front of what the user says. */
function mapTurns(turns: readonly Turn[], thinker: Thinker | null): MessageParam[] {
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

function mapTurn(turn: Turn, thinker: Thinker | null): string | ContentBlockParam[] {
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

/** Calls of other providers' models may have ids with characters that this API refuses. */
const mapCallId = (id: string): string => id.replace(/[^\w-]/g, "_");

/** The API takes objects only; what a model wrote wrongly is shown to it as it was. */
function parseArguments(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch {
    // It was no JSON.
  }
  return { arguments: text };
}

/** The range of this API ends where the others' middle is. */
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
