import type { RunEnd } from "../../ai/answer-part.ts";
import type { Thinking, ToolCall } from "../../ai/provider.ts";
import { noUsage } from "../../ai/usage.ts";
import type { Completion, CompletionUsage } from "./model.ts";
import { type AnswerThinking, mapThinking } from "./thinking.ts";

/** What all parts of one answer have in common. */
export type CompletionHead = {
  id: string;
  created: number;
  /** Seals what led to the answer, for its client. Null: there is too much of it. */
  sealThinking(thinking: Thinking): string | null;
};

type Finish = Extract<RunEnd, { type: "finish" }>;

/** An answer that is sent whole. */
export function createCompletion(
  { id, created, sealThinking }: CompletionHead,
  text: string,
  finish: Finish,
): Completion {
  const thinking = mapThinking(finish.thinking, sealThinking);
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

/** The events of an answer that is streamed; id and time are the same in each of them. */
export function createChunks({ id, created, sealThinking }: CompletionHead, model: string, includesUsage: boolean) {
  const head = `data: {"id":${JSON.stringify(id)},"object":"chat.completion.chunk","created":${created},"model":${JSON.stringify(model)},"choices":[`;
  const tail = includesUsage ? '],"usage":null}\n\n' : "]}\n\n";
  // Put together by hand: this runs for every token.
  const chunk = (delta: string, reason: string | null = null) =>
    `${head}{"index":0,"delta":${delta},"logprobs":null,"finish_reason":${JSON.stringify(reason)}}${tail}`;

  return {
    start: (): string => chunk('{"role":"assistant","content":""}'),
    text: (text: string): string => chunk(`{"content":${JSON.stringify(text)}}`),
    /** What led to it, calls, the reason of the end, the usage if it was asked for, and the end mark. */
    end(finish: Finish): string {
      const thinking = mapThinking(finish.thinking, sealThinking);
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

/** The calls of an answer; what led to them is beside the first one, as with Gemini's. */
const mapToolCalls = ({ toolCalls }: Finish, thinking: AnswerThinking | null) =>
  toolCalls.map((call, index) => ({
    ...mapToolCall(call),
    ...(index === 0 && thinking && { extra_content: thinking.extra_content }),
  }));

/**
 * What the run has used, with the attempts that failed: the tokens that are stored and charged. Parts that Parley never
 * asks for (audio, predictions) are 0, as OpenAI has them.
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
