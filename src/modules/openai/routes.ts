import { Type } from "@sinclair/typebox";
import { parseRequestUrl } from "../../http/request-url.ts";
import { type Route, route } from "../../http/route.ts";
import { mapToCompletionRequest } from "./map-request.ts";
import { Completion, CompletionEvent, CreateCompletion } from "./model.ts";
import { OpenAiModel, OpenAiModelList } from "./model-list.ts";
import { prepareCompletion } from "./prepare-completion.ts";
import { respondInChunks, respondInFull } from "./respond.ts";
import type { CompletionService } from "./service.ts";

const MODELS_PATH = "/v1/models/";
const tag = "openai";
const scope = "chat:completions";

const openAiError = { $ref: "#/components/responses/OpenAiError" };

/** Creates the routes of the OpenAI-compatible API: `/v1/chat/completions` and `/v1/models`. */
export const createOpenAiRoutes = ({ completions }: { completions: CompletionService }): Route[] => [
  route({
    method: "POST",
    path: "/v1/chat/completions",
    operationId: "createChatCompletion",
    summary: "Create a chat completion (OpenAI-compatible)",
    description: "An unsupported field returns 400, with the field's name in `param`.",
    tag,
    scope,
    limit: "ai",
    acceptsLargeBody: true,
    waitsForModel: true,
    prepareBody: prepareCompletion,
    body: CreateCompletion,
    ok: Completion,
    stream:
      "With `stream`: `chat.completion.chunk` events, and `[DONE]` at the end. Comments are sent while the model sends nothing. The " +
      "stream opens with the model's first byte, or after 2 seconds. A later failure is an event with `error`, without `[DONE]`.",
    streamEvent: CompletionEvent,
    problems: [404],
    // 422 comes from the provider, 502 means an answer without the required format, and 504 a model timeout.
    responses: { 422: openAiError, 502: openAiError, 504: openAiError },
    handle: async ({ caller, body, request, server }) => {
      const completionRequest = mapToCompletionRequest(body);
      const completion = await completions.start(caller, completionRequest);
      const connection = { request, server };
      if (completionRequest.isStreamed)
        return respondInChunks(completion, completionRequest.shouldIncludeUsage, connection);
      return respondInFull(completion, connection);
    },
  }),

  route({
    method: "GET",
    path: "/v1/models",
    operationId: "listOpenAiModels",
    summary: "List the configured models in OpenAI's format",
    tag,
    scope,
    ok: OpenAiModelList,
    handle: () => ({ object: "list" as const, data: completions.listModels() }),
  }),

  route({
    method: "GET",
    path: `${MODELS_PATH}*`,
    operationId: "getOpenAiModel",
    summary: "Get a configured model; the slash in its id may be encoded as `%2F`",
    tag,
    scope,
    params: Type.Object({ "*": Type.String() }),
    ok: OpenAiModel,
    handle: ({ request }) => completions.getModel(parseModelId(request)),
  }),
];

/** Decodes the model id in the path. If that fails, returns it unchanged, and no model is found. */
function parseModelId(request: Request): string {
  const encoded = parseRequestUrl(request).pathname.slice(MODELS_PATH.length);
  try {
    return decodeURIComponent(encoded);
  } catch {
    return encoded;
  }
}
