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
import { createChunkFormatter } from "./map-answer.ts";
import { mapEndToOpenAiError } from "./map-failure.ts";
import type { RunningCompletion } from "./service.ts";

/** The client connection that receives an answer. */
export type ClientConnection = { request: Request; server: Server<unknown> | null };

/** Interval between comments in an idle stream. Load balancers close idle connections after a minute or less. */
export const COMMENT_INTERVAL_MS = 5_000;

const partialTextError = createOpenAiError(
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
  shouldIncludeUsage: boolean,
  { request, server }: ClientConnection,
) {
  const stream = createEventStream(request, server, completion.onDisconnect, {
    intervalMs: COMMENT_INTERVAL_MS,
    onlyWhenIdle: true,
  });
  /** Null until an answer starts. */
  let formatter: ReturnType<typeof createChunkFormatter> | null = null;
  let sentTextChars = 0;
  let hasSentReasoning = false;
  /** Whether the next reasoning comes from a different model. */
  let isReasoningFromNewModel = false;

  /** Sends the first chunk if it hasn't been sent. */
  function startAnswer(model: string) {
    if (formatter) return formatter;
    formatter = createChunkFormatter(completion, model, shouldIncludeUsage);
    stream.write(formatter.formatStart());
    return formatter;
  }

  /** Ends the stream without `[DONE]`, so that clients recognize the failure. */
  function endWithError(error: OpenAiError): void {
    stream.write(`data: ${formatOpenAiError(error)}\n\n`);
    stream.end();
  }

  function writeReasoning(text: string): void {
    if (!formatter) return;
    // A failed model's reasoning can't be withdrawn, so a blank line separates it from the next model's.
    stream.write(formatter.formatReasoning(isReasoningFromNewModel && hasSentReasoning ? `\n\n${text}` : text));
    hasSentReasoning = true;
    isReasoningFromNewModel = false;
  }

  function reset({ model, text, reasoning = "" }: Extract<AnswerPart, { type: "reset" }>): void {
    // Chunks can't be withdrawn, so the answer fails if text must be replaced.
    if (text.length !== sentTextChars) endWithError(partialTextError);
    // If the answer keeps the earlier reasoning, that reasoning already ends with a blank line.
    isReasoningFromNewModel = reasoning === "";
    // If no text has been sent, the next chunks can still contain the name of the model that writes the text.
    if (formatter && sentTextChars === 0) formatter = createChunkFormatter(completion, model, shouldIncludeUsage);
  }

  return {
    response: stream.response,

    write(part: AnswerPart): void {
      switch (part.type) {
        case "text":
          sentTextChars += part.text.length;
          if (formatter) stream.write(formatter.formatText(part.text));
          return;
        case "reasoning":
          writeReasoning(part.text);
          return;
        case "start":
          startAnswer(part.model);
          return;
        case "reset":
          reset(part);
          return;
        default:
          part satisfies never;
      }
    },

    end(runEnd: RunEnd): void {
      if (runEnd.type === "finish") {
        stream.write(startAnswer(runEnd.model).formatEnd(runEnd));
        stream.end();
      } else endWithError(mapEndToOpenAiError(runEnd));
    },

    /** Ends the stream with a thrown error. */
    fail(thrown: unknown): void {
      endWithError(mapThrownToOpenAiError(findTemporaryProblem(thrown) ?? thrown));
    },
  };
}
