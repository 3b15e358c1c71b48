import type { Server } from "bun";
import type { AnswerPart, RunEnd } from "../../ai/answer-part.ts";
import { findTemporaryProblem } from "../../db/client.ts";
import { createEventStream } from "../../http/event-stream.ts";
import {
  createOpenAiError,
  formatOpenAiError,
  mapThrownToOpenAiError,
  type OpenAiError,
} from "../../http/openai-error.ts";
import { createChunks } from "./map-answer.ts";
import { mapEndToOpenAiError } from "./map-failure.ts";
import type { RunningCompletion } from "./service.ts";

/** The client connection that receives an answer. */
export type ClientConnection = { request: Request; server: Server<unknown> | null };

/** Interval of comments in an idle stream, because load balancers close idle connections after a minute or less. */
export const COMMENT_AFTER_MS = 5_000;

const textWithdrawnError = createOpenAiError(
  503,
  "provider_unavailable",
  "The model failed, and the streamed text can't be withdrawn.",
);

export type ChunkStream = ReturnType<typeof openChunks>;

/**
 * Opens the stream for an answer's chunks. It may open before a model responds: the chunk with the role is sent before
 * the first text, or at the end of an answer without text.
 */
export function openChunks(
  completion: RunningCompletion,
  includesUsage: boolean,
  { request, server }: ClientConnection,
) {
  const stream = createEventStream(request, server, completion.leave, {
    everyMs: COMMENT_AFTER_MS,
    onlyInSilence: true,
  });
  let chunks: ReturnType<typeof createChunks> | null = null;
  let length = 0;
  /** Whether reasoning was sent, and whether the next reasoning comes from a different model. */
  let hasReasoning = false;
  let isReasoningNew = false;

  function begin(model: string) {
    if (chunks) return chunks;
    chunks = createChunks(completion, model, includesUsage);
    stream.write(chunks.start());
    return chunks;
  }

  /** Ends the stream without `[DONE]`, so that clients recognize the failure. */
  function endWith(error: OpenAiError): void {
    stream.write(`data: ${formatOpenAiError(error)}\n\n`);
    stream.end();
  }

  function writeReasoning(text: string): void {
    if (!chunks) return;
    // A failed model's reasoning can't be withdrawn, so a blank line separates the next model's from it.
    stream.write(chunks.reasoning(isReasoningNew && hasReasoning ? `\n\n${text}` : text));
    hasReasoning = true;
    isReasoningNew = false;
  }

  function reset({ model, text, reasoning = "" }: Extract<AnswerPart, { type: "reset" }>): void {
    // If text has to be replaced, the answer fails, because chunks can't be withdrawn.
    if (text.length !== length) endWith(textWithdrawnError);
    // If earlier reasoning is kept, it already ends with a blank line.
    isReasoningNew = reasoning === "";
    // Only reasoning was sent so far, so the chunks can name the model that writes the text.
    if (chunks && length === 0) chunks = createChunks(completion, model, includesUsage);
  }

  return {
    response: stream.response,

    write(part: AnswerPart): void {
      switch (part.type) {
        case "text":
          length += part.text.length;
          if (chunks) stream.write(chunks.text(part.text));
          return;
        case "reasoning":
          writeReasoning(part.text);
          return;
        case "start":
          begin(part.model);
          return;
        case "reset":
          reset(part);
          return;
        default:
          part satisfies never;
      }
    },

    end(end: RunEnd): void {
      if (end.type === "finish") {
        stream.write(begin(end.model).end(end));
        stream.end();
      } else endWith(mapEndToOpenAiError(end));
    },

    /** Ends the stream with a thrown error. */
    fail(thrown: unknown): void {
      endWith(mapThrownToOpenAiError(findTemporaryProblem(thrown) ?? thrown));
    },
  };
}
