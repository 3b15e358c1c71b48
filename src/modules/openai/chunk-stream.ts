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

/** Where an answer is sent. */
export type ReaderConnection = { request: Request; server: Server<unknown> | null };

/** A stream that is silent for so long sends a comment: load balancers cut a silent connection after a minute or less. */
export const COMMENT_AFTER_MS = 5_000;

const withdrawn = createOpenAiError(
  503,
  "provider_unavailable",
  "The model broke off, and what was shown of the answer cannot be taken back.",
);

export type ChunkStream = ReturnType<typeof openChunks>;

/**
 * The stream that an answer's chunks are written to. It may be open before a model answers: the chunk with the role comes
 * with the first text, or with the end of an answer that has none.
 */
export function openChunks(
  completion: RunningCompletion,
  includesUsage: boolean,
  { request, server }: ReaderConnection,
) {
  const stream = createEventStream(request, server, completion.leave, {
    everyMs: COMMENT_AFTER_MS,
    onlyInSilence: true,
  });
  let chunks: ReturnType<typeof createChunks> | null = null;
  let length = 0;

  function begin(model: string) {
    if (chunks) return chunks;
    chunks = createChunks(completion, model, includesUsage);
    stream.write(chunks.start());
    return chunks;
  }

  /** Without `[DONE]`: that is how clients tell a broken answer from a whole one. */
  function endWith(error: OpenAiError): void {
    stream.write(`data: ${formatOpenAiError(error)}\n\n`);
    stream.end();
  }

  return {
    response: stream.response,

    take(part: AnswerPart): void {
      if (part.type === "text") {
        length += part.text.length;
        if (chunks) stream.write(chunks.text(part.text));
      } else if (part.type === "start") begin(part.model);
      // A step that is made anew cannot be shown: a chunk cannot be taken back.
      else if (part.text.length !== length) endWith(withdrawn);
    },

    end(end: RunEnd): void {
      if (end.type === "finish") {
        stream.write(begin(end.model).end(end));
        stream.end();
      } else endWith(mapEndToOpenAiError(end));
    },

    /** Ends the stream because of what was thrown. */
    fail(thrown: unknown): void {
      endWith(mapThrownToOpenAiError(findTemporaryProblem(thrown) ?? thrown));
    },
  };
}
