import { applyPart, applyReasoning, type RunEnd } from "../../ai/answer-part.ts";
import { createOpenAiErrorResponse } from "../../http/openai-error.ts";
import { type ChunkStream, openChunks, type ReaderConnection } from "./chunk-stream.ts";
import { createCompletion } from "./map-answer.ts";
import { mapEndToOpenAiError } from "./map-failure.ts";
import type { RunningCompletion } from "./service.ts";

/** A stream opens after this time even without a sign of life from a model; clients and proxies wait for headers. */
const OPEN_AFTER_MS = 2_000;

/** Detects a disconnected reader, and keeps the server from closing a connection that is idle while a model thinks. */
function watchReader({ request, server }: ReaderConnection, completion: RunningCompletion): void {
  server?.timeout(request, 0);
  request.signal.addEventListener("abort", completion.leave, { once: true });
  // The client disconnected while the run was prepared, so no model is called.
  if (request.signal.aborted) completion.leave();
}

/** Sends the whole answer in one response. */
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
 * Streams the answer. The stream opens with a model's first byte, or after `OPEN_AFTER_MS`: an earlier failure has its own
 * HTTP status, a later one is an event in the stream.
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

    const callbacks = {
      // Deferred: an error in the same packet is a rejection and still gets its own status.
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
    // Runs as its own task: an answer that is stored is written to its end, with or without a reader.
    completion
      .run((part) => (chunks ?? open()).take(part), callbacks)
      .then(end)
      .catch((error) => (chunks ? chunks.fail(error) : reject(error)));
  });
}
