import { applyPart, applyReasoning, type RunEnd } from "../../ai/answer-part.ts";
import { createOpenAiErrorResponse } from "../../http/openai-error.ts";
import { type ChunkStream, openChunks, type ReaderConnection } from "./chunk-stream.ts";
import { createCompletion } from "./map-answer.ts";
import { mapEndToOpenAiError } from "./map-failure.ts";
import type { RunningCompletion } from "./service.ts";

/** A stream opens after so long, whether or not a model has given a sign of life; clients and proxies wait for headers. */
const OPEN_AFTER_MS = 2_000;

/** Watches for the reader's leaving, and keeps the server from ending a connection that is quiet while a model thinks. */
function watchReader({ request, server }: ReaderConnection, completion: RunningCompletion): void {
  server?.timeout(request, 0);
  request.signal.addEventListener("abort", completion.leave, { once: true });
  // Gone while the run was prepared: no model is asked.
  if (request.signal.aborted) completion.leave();
}

/** The whole answer at once. */
export async function answerWhole(completion: RunningCompletion, connection: ReaderConnection): Promise<Response> {
  watchReader(connection, completion);
  let text = "";
  let reasoning = "";
  const end = await completion.run((part) => {
    text = applyPart(text, part);
    reasoning = applyReasoning(reasoning, part);
  });
  if (end.type === "finish") return Response.json(createCompletion(completion, { text, reasoning }, end));
  return createOpenAiErrorResponse(mapEndToOpenAiError(end));
}

/**
 * The answer as it is written. The stream opens with a model's first byte, or after `OPEN_AFTER_MS`: a failure before has
 * its own HTTP status, a later one is an event in the stream.
 */
export function answerInChunks(
  completion: RunningCompletion,
  includesUsage: boolean,
  connection: ReaderConnection,
): Promise<Response> {
  watchReader(connection, completion);
  return new Promise((resolve, reject) => {
    let chunks: ChunkStream | null = null;

    function open(): ChunkStream {
      clearTimeout(timer);
      if (chunks) return chunks;
      chunks = openChunks(completion, includesUsage, connection);
      resolve(chunks.response);
      return chunks;
    }
    const timer = setTimeout(open, OPEN_AFTER_MS);
    let opening: NodeJS.Immediate | undefined;

    const signs = {
      // Not at once: an error in that same packet is a refusal, and still gets its status.
      onActivity() {
        if (!chunks) opening ??= setImmediate(open);
      },
      onEnd() {
        clearTimeout(timer);
        clearImmediate(opening);
      },
    };
    function end(end: RunEnd): void {
      if (chunks || end.type === "finish") open().end(end);
      else resolve(createOpenAiErrorResponse(mapEndToOpenAiError(end)));
    }
    // A task of its own: what is stored is written to its end, with or without a reader.
    completion
      .run((part) => (chunks ?? open()).take(part), signs)
      .then(end)
      .catch((error) => (chunks ? chunks.fail(error) : reject(error)));
  });
}
