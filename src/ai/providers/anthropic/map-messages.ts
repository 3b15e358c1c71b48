import type {
  ToolChoice as AnthropicToolChoice,
  ContentBlockParam,
  MessageCreateParamsStreaming,
  MessageParam,
} from "@anthropic-ai/sdk/resources/messages/messages";
import type { AnswerOptions, ProviderRequest, ToolChoice } from "../../provider.ts";
import { addInstructions } from "../format-in-words.ts";
import { mapToTurns, type Turn } from "../map-conversation.ts";
import { markStablePrefix } from "./cache.ts";
import { mapToClaudeSchema } from "./map-format.ts";

/** Most tokens of an answer where none are asked for: the Messages API wants a number. Thinking counts in it. */
const OUTPUT_TOKENS_DEFAULT = 16_384;

/** Our request in the words of Anthropic's Messages API. */
export function mapToMessagesRequest(request: ProviderRequest): MessageCreateParamsStreaming {
  const { format } = request.options;
  const schema = format ? mapToClaudeSchema(format) : null;
  const messages = format && !schema ? addInstructions(request.messages, format) : request.messages;
  const { system, turns } = mapToTurns(messages, request.partial);
  return markStablePrefix({
    model: request.model,
    max_tokens:
      request.outputTokensMax ?? Math.min(OUTPUT_TOKENS_DEFAULT, request.answerTokensMax ?? OUTPUT_TOKENS_DEFAULT),
    messages: mapTurns(turns),
    stream: true,
    ...(system === null ? {} : { system }),
    ...(schema && { output_config: { format: { type: "json_schema" as const, schema } } }),
    ...mapOptions(request.options),
  });
}

/** Results of tools are part of a user's turn here, in front of what the user says. */
function mapTurns(turns: readonly Turn[]): MessageParam[] {
  const messages: MessageParam[] = [];
  for (const turn of turns) {
    const role = turn.role === "assistant" ? "assistant" : "user";
    const content = mapTurn(turn);
    const last = messages.at(-1);
    if (last?.role === role) last.content = [...toBlocks(last.content), ...toBlocks(content)];
    else messages.push({ role, content });
  }
  return messages;
}

const toBlocks = (content: string | ContentBlockParam[]): ContentBlockParam[] =>
  typeof content === "string" ? [{ type: "text", text: content }] : content;

function mapTurn(turn: Turn): string | ContentBlockParam[] {
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
  return turn.content.trim() === "" ? calls : [{ type: "text", text: turn.content }, ...calls];
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
