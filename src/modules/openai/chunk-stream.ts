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

/** Interval between comments in an idle stream. Load balancers close idle connections after a minute or less. */
export const COMMENT_INTERVAL_MS = 5_000;

const textWithdrawnError = createOpenAiError(
  503,
  "provider_unavailable",
  "The model failed, and the streamed text can't be withdrawn.",
);

export type ChunkStream = ReturnType<typeof openChunkStream>;

/**
 * Opens the stream for an answer's chunks, possibly before a model responds. The first chunk, which contains the role, is sent
 * when an answer starts, or at the end of an answer without text.
 */
export function openChunkStream(
  completion: RunningCompletion,
  includesUsage: boolean,
  { request, server }: ClientConnection,
) {
  const stream = createEventStream(request, server, completion.onDisconnect, {
    intervalMs: COMMENT_INTERVAL_MS,
    onlyWhenIdle: true,
  });
  let chunks: ReturnType<typeof createChunks> | null = null;
  let textChars = 0;
  /** Whether reasoning was sent. */
  let hasReasoning = false;
  /** Whether the next reasoning comes from another model. */
  let isReasoningFromNewModel = false;

  function startChunks(model: string) {
    if (chunks) return chunks;
    chunks = createChunks(completion, model, includesUsage);
    stream.write(chunks.start());
    return chunks;
  }

  /** Ends the stream without `[DONE]`, so that clients recognize the failure. */
  function endWithError(error: OpenAiError): void {
    stream.write(`data: ${formatOpenAiError(error)}\n\n`);
    stream.end();
  }

  function writeReasoning(text: string): void {
    if (!chunks) return;
    // A failed model's reasoning can't be withdrawn, so a blank line separates it from the next model's.
    stream.write(chunks.reasoning(isReasoningFromNewModel && hasReasoning ? `\n\n${text}` : text));
    hasReasoning = true;
    isReasoningFromNewModel = false;
  }

  function reset({ model, text, reasoning = "" }: Extract<AnswerPart, { type: "reset" }>): void {
    // Chunks can't be withdrawn, so the answer fails if text must be replaced.
    if (text.length !== textChars) endWithError(textWithdrawnError);
    // If the answer keeps the earlier reasoning, that reasoning already ends with a blank line.
    isReasoningFromNewModel = reasoning === "";
    // No text has been sent, so the next chunks can name the model that writes the text.
    if (chunks && textChars === 0) chunks = createChunks(completion, model, includesUsage);
  }

  return {
    response: stream.response,

    write(part: AnswerPart): void {
      switch (part.type) {
        case "text":
          textChars += part.text.length;
          if (chunks) stream.write(chunks.text(part.text));
          return;
        case "reasoning":
          writeReasoning(part.text);
          return;
        case "start":
          startChunks(part.model);
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
        stream.write(startChunks(end.model).end(end));
        stream.end();
      } else endWithError(mapEndToOpenAiError(end));
    },

    /** Ends the stream with a thrown error. */
    fail(thrown: unknown): void {
      endWithError(mapThrownToOpenAiError(findTemporaryProblem(thrown) ?? thrown));
    },
  };
}
