import { applyPart, applyReasoning, type RunEnd } from "../../ai/answer-part.ts";
import { createOpenAiErrorResponse } from "../../http/openai-error.ts";
import { type ChunkStream, type ClientConnection, openChunkStream } from "./chunk-stream.ts";
import { createCompletion } from "./map-answer.ts";
import { mapEndToOpenAiError } from "./map-failure.ts";
import type { RunningCompletion } from "./service.ts";

/** A stream opens after this time even if no model has responded, because clients and proxies limit the wait for headers. */
const OPEN_AFTER_MS = 2_000;

/**
 * Detects when the client disconnects. Disables the idle timeout, because the connection is idle while a model thinks.
 */
function watchConnection({ request, server }: ClientConnection, completion: RunningCompletion): void {
  server?.timeout(request, 0);
  request.signal.addEventListener("abort", completion.onDisconnect, { once: true });
  // If the client disconnected while the run was being prepared, no model is called.
  if (request.signal.aborted) completion.onDisconnect();
}

/** Runs the completion and sends the answer in one response. */
export async function respondInFull(completion: RunningCompletion, connection: ClientConnection): Promise<Response> {
  watchConnection(connection, completion);
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
 * Runs the completion and streams the answer. The stream opens when a model sends its first byte, or after `OPEN_AFTER_MS`. A
 * failure before the stream opens is sent with an HTTP status; a later failure is sent as an event in the stream.
 */
export function respondInChunks(
  completion: RunningCompletion,
  shouldIncludeUsage: boolean,
  connection: ClientConnection,
): Promise<Response> {
  watchConnection(connection, completion);
  return new Promise((resolve, reject) => {
    let stream: ChunkStream | null = null;

    /** Opens the stream if it isn't open. */
    function openStream(): ChunkStream {
      clearTimeout(openTimeout);
      if (stream) return stream;
      stream = openChunkStream(completion, shouldIncludeUsage, connection);
      resolve(stream.response);
      return stream;
    }
    const openTimeout = setTimeout(openStream, OPEN_AFTER_MS);
    let openImmediate: NodeJS.Immediate | undefined;

    const callbacks = {
      // Deferred, so that an error in the same packet can still be sent with its HTTP status.
      onActivity() {
        if (!stream) openImmediate ??= setImmediate(openStream);
      },
      onEnd() {
        clearTimeout(openTimeout);
        clearImmediate(openImmediate);
      },
    };
    function finish(runEnd: RunEnd): void {
      if (stream || runEnd.type === "finish") openStream().end(runEnd);
      else resolve(createOpenAiErrorResponse(mapEndToOpenAiError(runEnd)));
    }
    // Not awaited, because an answer in a conversation is completed even if the client disconnects.
    completion
      .run((part) => (stream ?? openStream()).write(part), callbacks)
      .then(finish)
      .catch((error) => (stream ? stream.fail(error) : reject(error)));
  });
}
