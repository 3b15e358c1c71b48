import { Type } from "@sinclair/typebox";
import { readUrl } from "../../http/request-url.ts";
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

/** The OpenAI-compatible API: `/v1/chat/completions` and `/v1/models`. Errors have OpenAI's format. */
export const createOpenAiRoutes = ({ completions }: { completions: CompletionService }): Route[] => [
  route({
    method: "POST",
    path: "/v1/chat/completions",
    operationId: "createChatCompletion",
    summary: "Create a chat completion (OpenAI-compatible)",
    description: "Unsupported fields return 400 with the field's name in `param`; none is ignored silently.",
    tag,
    scope,
    limit: "ai",
    takesLargeBody: true,
    waitsForModel: true,
    prepareBody: prepareCompletion,
    body: CreateCompletion,
    ok: Completion,
    stream:
      "With `stream`: `chat.completion.chunk` events, and `[DONE]` at the end; comments while no model writes. It opens " +
      "with the model's first byte, or after 2 seconds. A failure after that is an event with `error`, without `[DONE]`.",
    streamEvent: CompletionEvent,
    problems: [404],
    // 422 comes from the provider, 502 means an answer without the required format, and 504 a model timeout.
    responses: { 422: openAiError, 502: openAiError, 504: openAiError },
    handle: async ({ caller, body, request, server }) => {
      const completionRequest = mapToCompletionRequest(body);
      const completion = await completions.start(caller, completionRequest);
      const connection = { request, server };
      if (completionRequest.isStreamed) return respondInChunks(completion, completionRequest.includesUsage, connection);
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
    summary: "Get a configured model; the slash in its name may be raw or `%2F`",
    tag,
    scope,
    params: Type.Object({ "*": Type.String() }),
    ok: OpenAiModel,
    handle: ({ request }) => completions.getModel(readModelId(request)),
  }),
];

/** Decodes the model id once. An id that can't be decoded stays as it is, and no model has it. */
function readModelId(request: Request): string {
  const encoded = readUrl(request).pathname.slice(MODELS_PATH.length);
  try {
    return decodeURIComponent(encoded);
  } catch {
    return encoded;
  }
}
