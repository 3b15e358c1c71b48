import type { RunEnd } from "../../ai/answer-part.ts";
import type { Thinking, ToolCall } from "../../ai/provider.ts";
import { noUsage } from "../../ai/usage.ts";
import type { Completion, CompletionUsage } from "./model.ts";
import { type AnswerThinking, mapThinking } from "./thinking.ts";

/** The data shared by all parts of an answer. */
export type CompletionHead = {
  id: string;
  created: number;
  /** Encrypts the thinking for the client; null if it is too long. */
  sealThinking(thinking: Thinking): string | null;
  /** Whether the client may read reasoning. Thinking that the client has to return is encrypted in any case. */
  showsReasoning: boolean;
};

type Finish = Extract<RunEnd, { type: "finish" }>;

/**
 * Creates the response with a complete answer. Reasoning is in the field that DeepSeek introduced; OpenAI's clients
 * ignore it.
 */
export function createCompletion(
  head: CompletionHead,
  { text, reasoning }: { text: string; reasoning: string },
  finish: Finish,
): Completion {
  const { id, created } = head;
  const thinking = mapThinking(finish.thinking, head);
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

/** Creates the events of a streamed answer. They all have the same id and time. */
export function createChunks(completion: CompletionHead, model: string, includesUsage: boolean) {
  const { id, created } = completion;
  const head = `data: {"id":${JSON.stringify(id)},"object":"chat.completion.chunk","created":${created},"model":${JSON.stringify(model)},"choices":[`;
  const tail = includesUsage ? '],"usage":null}\n\n' : "]}\n\n";
  // Concatenated instead of serialized, because this runs for every token.
  const chunk = (delta: string, reason: string | null = null) =>
    `${head}{"index":0,"delta":${delta},"logprobs":null,"finish_reason":${JSON.stringify(reason)}}${tail}`;

  return {
    start: (): string => chunk('{"role":"assistant","content":""}'),
    text: (text: string): string => chunk(`{"content":${JSON.stringify(text)}}`),
    reasoning: (text: string): string => chunk(`{"reasoning_content":${JSON.stringify(text)}}`),
    /** Creates the last events: thinking, tool calls, the finish reason, the usage if requested, and the end marker. */
    end(finish: Finish): string {
      const thinking = mapThinking(finish.thinking, completion);
      const details = thinking ? chunk(JSON.stringify({ reasoning_details: thinking.reasoning_details })) : "";
      const calls = mapToolCalls(finish, thinking).map((call, index) =>
        chunk(JSON.stringify({ tool_calls: [{ index, ...call }] })),
      );
      const usage = includesUsage ? `${head}],"usage":${JSON.stringify(mapUsage(finish))}}\n\n` : "";
      return `${details}${calls.join("")}${chunk("{}", finish.reason)}${usage}data: [DONE]\n\n`;
    },
  };
}

export const mapToolCall = ({ id, name, arguments: text }: ToolCall) => ({
  id,
  type: "function" as const,
  function: { name, arguments: text },
});

/** Maps the tool calls of an answer. Thinking is attached to the first one, as Gemini does. */
const mapToolCalls = ({ toolCalls }: Finish, thinking: AnswerThinking | null) =>
  toolCalls.map((call, index) => ({
    ...mapToolCall(call),
    ...(index === 0 && thinking && { extra_content: thinking.extra_content }),
  }));

/**
 * Maps the run's usage including failed attempts: the tokens that are stored and charged. Details that Parley never
 * requests (audio, predictions) are 0, as in OpenAI's responses.
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
