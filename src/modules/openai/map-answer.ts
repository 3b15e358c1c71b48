import type { RunEnd } from "../../ai/answer-part.ts";
import type { Thinking, ToolCall } from "../../ai/provider.ts";
import { noUsage } from "../../ai/usage.ts";
import type { Completion, CompletionUsage } from "./model.ts";
import { type AnswerThinking, mapThinking } from "./thinking.ts";

/** Data that all chunks of an answer share. */
export type CompletionContext = {
  id: string;
  created: number;
  /** Encrypts the thinking for the client. Returns null if it is too long. */
  sealThinking(thinking: Thinking): string | null;
  /** Whether the client may read reasoning. Thinking that the client must return is always encrypted. */
  shouldShowReasoning: boolean;
};

type Finish = Extract<RunEnd, { type: "finish" }>;

/**
 * Creates the response with a complete answer. Reasoning is in `reasoning_content`, which DeepSeek introduced and OpenAI's clients
 * ignore.
 */
export function createCompletion(
  context: CompletionContext,
  { text, reasoning }: { text: string; reasoning: string },
  finish: Finish,
): Completion {
  const { id, created } = context;
  const thinking = mapThinking(finish.thinking, context);
  const toolCalls = mapToolCalls(finish, thinking);
  return {
    id,
    object: "chat.completion",
    created,
    model: finish.model,
    choices: [
      {
        index: 0,
        message: {
          role: "assistant",
          content: text === "" && toolCalls.length > 0 ? null : text,
          refusal: null,
          ...(reasoning !== "" && { reasoning_content: reasoning }),
          ...(toolCalls.length > 0 && { tool_calls: toolCalls }),
          ...(thinking && { reasoning_details: thinking.reasoning_details }),
        },
        logprobs: null,
        finish_reason: finish.reason,
      },
    ],
    usage: mapUsage(finish),
  };
}

/** Creates a formatter for the events of a streamed answer. */
export function createChunkFormatter(completion: CompletionContext, model: string, shouldIncludeUsage: boolean) {
  const { id, created } = completion;
  const chunkStart = `data: {"id":${JSON.stringify(id)},"object":"chat.completion.chunk","created":${created},"model":${JSON.stringify(model)},"choices":[`;
  const chunkEnd = shouldIncludeUsage ? '],"usage":null}\n\n' : "]}\n\n";
  // Concatenates strings, because this runs for every token and serializing objects is slower.
  const formatChunk = (delta: string, reason: string | null = null) =>
    `${chunkStart}{"index":0,"delta":${delta},"logprobs":null,"finish_reason":${JSON.stringify(reason)}}${chunkEnd}`;

  return {
    formatStart: (): string => formatChunk('{"role":"assistant","content":""}'),
    formatText: (text: string): string => formatChunk(`{"content":${JSON.stringify(text)}}`),
    formatReasoning: (text: string): string => formatChunk(`{"reasoning_content":${JSON.stringify(text)}}`),
    /** Formats the last events: thinking, tool calls, the finish reason, the usage if requested, and `[DONE]`. */
    formatEnd(finish: Finish): string {
      const thinking = mapThinking(finish.thinking, completion);
      const details = thinking ? formatChunk(JSON.stringify({ reasoning_details: thinking.reasoning_details })) : "";
      const calls = mapToolCalls(finish, thinking).map((call, index) =>
        formatChunk(JSON.stringify({ tool_calls: [{ index, ...call }] })),
      );
      const usage = shouldIncludeUsage ? `${chunkStart}],"usage":${JSON.stringify(mapUsage(finish))}}\n\n` : "";
      return `${details}${calls.join("")}${formatChunk("{}", finish.reason)}${usage}data: [DONE]\n\n`;
    },
  };
}

export const mapToolCall = ({ id, name, arguments: text }: ToolCall) => ({
  id,
  type: "function" as const,
  function: { name, arguments: text },
});

/** Maps the tool calls of an answer. Attaches thinking to the first tool call, as Gemini does. */
const mapToolCalls = ({ toolCalls }: Finish, thinking: AnswerThinking | null) =>
  toolCalls.map((call, index) => ({
    ...mapToolCall(call),
    ...(index === 0 && thinking && { extra_content: thinking.extra_content }),
  }));

/**
 * Maps the usage of the whole run, including failed attempts. The same usage is stored and charged. Details of features that
 * Parley doesn't use (audio, predictions) are 0, as in OpenAI's responses.
 */
function mapUsage({ usage }: Finish): CompletionUsage {
  const { input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens } = usage ?? noUsage;
  return {
    prompt_tokens: input_tokens,
    completion_tokens: output_tokens,
    total_tokens: input_tokens + output_tokens,
    prompt_tokens_details: { cached_tokens: cached_input_tokens, cache_write_tokens, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  };
}
