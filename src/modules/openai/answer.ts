import type { Server } from "bun";
import { type AnswerPart, applyPart, type RunEnd } from "../../ai/answer-part.ts";
import { findTemporaryProblem } from "../../db/client.ts";
import { createEventStream } from "../../http/event-stream.ts";
import {
  createOpenAiErrorResponse,
  formatOpenAiError,
  mapFailureToOpenAiError,
  mapThrownToOpenAiError,
  type OpenAiError,
} from "../../http/openai-error.ts";
import { createChunks, createCompletion } from "./map-answer.ts";
import type { RunningCompletion } from "./service.ts";

type Connection = { request: Request; server: Server<unknown> | null };

const stopped: OpenAiError = {
  status: 503,
  message: "The answer was stopped, because the server is shutting down.",
  type: "server_error",
  code: "draining",
  param: null,
};
const withdrawn: OpenAiError = {
  status: 503,
  message: "The model broke off in a tool call, and what was shown of the answer cannot be taken back.",
  type: "server_error",
  code: "provider_unavailable",
  param: null,
};

/** Watches for the reader's leaving, and keeps the server from ending a connection that is quiet while a model thinks. */
function watchReader({ request, server }: Connection, completion: RunningCompletion): void {
  server?.timeout(request, 0);
  request.signal.addEventListener("abort", completion.leave, { once: true });
}

/** The whole answer at once. */
export async function answerWhole(completion: RunningCompletion, connection: Connection): Promise<Response> {
  watchReader(connection, completion);
  let text = "";
  const end = await completion.run((part) => {
    text = applyPart(text, part);
  });
  if (end.type === "finish") return Response.json(createCompletion(completion, text, end));
  return createOpenAiErrorResponse(mapEndToError(end));
}

/** The answer as it is written. It begins with the model's first sign, so that a failure before has its own status. */
export function answerInChunks(
  completion: RunningCompletion,
  includesUsage: boolean,
  connection: Connection,
): Promise<Response> {
  watchReader(connection, completion);
  return new Promise((resolve, reject) => {
    let chunks: ChunkStream | null = null;
    // A task of its own: what is stored is written to its end, with or without a reader.
    completion
      .run((part) => {
        if (part.type === "start") {
          chunks = openChunks(completion, part.model, includesUsage, connection);
          resolve(chunks.response);
        } else chunks?.take(part);
      })
      .then((end) => (chunks ? chunks.end(end) : resolve(createOpenAiErrorResponse(mapEndToError(end)))))
      .catch((error) => (chunks ? chunks.fail(error) : reject(error)));
  });
}

type ChunkStream = ReturnType<typeof openChunks>;

/** The stream that chunks are written to, from the first sign of the model on. */
function openChunks(completion: RunningCompletion, model: string, includesUsage: boolean, connection: Connection) {
  const { leave } = completion;
  const stream = createEventStream(connection.request, connection.server, leave);
  const chunks = createChunks(completion, model, includesUsage);
  let error: OpenAiError | null = null;
  let length = 0;
  stream.write(chunks.start());

  function close(): void {
    // Without `[DONE]`: that is how clients tell a broken answer from a whole one.
    if (error) stream.write(`data: ${formatOpenAiError(error)}\n\n`);
    stream.end();
  }

  return {
    response: stream.response,
    take(part: AnswerPart): void {
      if (part.type === "text") {
        length += part.text.length;
        if (!error) stream.write(chunks.text(part.text));
      } else if (part.type === "reset") {
        // A step that is made anew cannot be shown: a chunk cannot be taken back.
        if (part.text.length !== length) error = withdrawn;
        if (error) leave();
      }
    },
    end(end: RunEnd): void {
      if (end.type !== "finish") error ??= mapEndToError(end);
      else if (!error) stream.write(chunks.end(end));
      close();
    },
    fail(thrown: unknown): void {
      error ??= mapThrownToOpenAiError(findTemporaryProblem(thrown) ?? thrown);
      close();
    },
  };
}

function mapEndToError(end: RunEnd): OpenAiError {
  return end.type === "error" ? mapFailureToOpenAiError(end.code, end.detail) : stopped;
}
