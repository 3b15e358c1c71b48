import type { Server } from "bun";
import type { ChainPart } from "../../ai/chain-part.ts";
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
  for await (const part of completion.parts) {
    if (part.type === "text") text += part.text;
    else if (part.type === "reset") text = part.text;
    else if (part.type === "finish") return Response.json(createCompletion(completion, text, part));
    else if (part.type !== "start") return createOpenAiErrorResponse(mapEndToError(part));
  }
  return createOpenAiErrorResponse(stopped);
}

/** The answer as it is written. It begins with the model's first sign, so that a failure before has its own status. */
export async function answerInChunks(
  completion: RunningCompletion,
  includesUsage: boolean,
  connection: Connection,
): Promise<Response> {
  watchReader(connection, completion);
  const { parts, leave } = completion;
  const { value: first } = await parts.next();
  if (first?.type !== "start") {
    await parts.return();
    return createOpenAiErrorResponse(first ? mapEndToError(first) : stopped);
  }
  const stream = createEventStream(connection.request, connection.server, leave);
  const chunks = createChunks(completion, first.model, includesUsage);
  stream.write(chunks.start());
  // A task of its own: what is stored is written to its end, with or without a reader.
  void write();
  return stream.response;

  async function write(): Promise<void> {
    let error: OpenAiError | null = null;
    let length = 0;
    try {
      for await (const part of parts) {
        if (part.type === "text") {
          length += part.text.length;
          if (!error) stream.write(chunks.text(part.text));
        } else if (part.type === "reset") {
          // A turn that is made anew cannot be shown: a chunk cannot be taken back.
          if (part.text.length !== length) error = withdrawn;
          if (error) leave();
        } else if (part.type === "finish") {
          if (!error) stream.write(chunks.end(part));
        } else error ??= mapEndToError(part);
      }
    } catch (thrown) {
      error ??= mapThrownToOpenAiError(findTemporaryProblem(thrown) ?? thrown);
    }
    // Without `[DONE]`: that is how clients tell a broken answer from a whole one.
    if (error) stream.write(`data: ${formatOpenAiError(error)}\n\n`);
    stream.end();
  }
}

function mapEndToError(part: ChainPart): OpenAiError {
  return part.type === "error" ? mapFailureToOpenAiError(part.code, part.detail) : stopped;
}
