import { Type } from "@sinclair/typebox";
import { readUrl } from "../../http/request-url.ts";
import { type Route, route } from "../../http/route.ts";
import { answerInChunks, answerWhole } from "./answer.ts";
import { mapToCompletionRequest } from "./map-request.ts";
import { Completion, CreateCompletion } from "./model.ts";
import { OpenAiModel, OpenAiModelList } from "./model-list.ts";
import { prepareCompletion } from "./prepare-completion.ts";
import type { CompletionService } from "./service.ts";

const MODELS_PATH = "/v1/models/";
const tag = "openai";
const scope = "chat:completions";

const openAiError = { $ref: "#/components/responses/OpenAiError" };

/** What OpenAI's own clients speak: `/v1/chat/completions` and `/v1/models`. Errors there have OpenAI's shape. */
export const createOpenAiRoutes = ({ completions }: { completions: CompletionService }): Route[] => [
  route({
    method: "POST",
    path: "/v1/chat/completions",
    operationId: "createChatCompletion",
    summary: "An answer of a model, as OpenAI's Chat Completions give it",
    description: "No field is ignored silently: what isn't supported is 400, with its name in `param`.",
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
    problems: [404],
    // The provider's own, and a model that did not answer in time.
    responses: { 422: openAiError, 504: openAiError },
    handle: async ({ caller, body, request, server }) => {
      const asked = mapToCompletionRequest(body);
      const completion = await completions.start(caller, asked);
      const connection = { request, server };
      if (asked.isStreamed) return answerInChunks(completion, asked.includesUsage, connection);
      return answerWhole(completion, connection);
    },
  }),

  route({
    method: "GET",
    path: "/v1/models",
    operationId: "listOpenAiModels",
    summary: "The configured models, as OpenAI lists them",
    tag,
    scope,
    ok: OpenAiModelList,
    handle: () => ({ object: "list" as const, data: completions.listModels() }),
  }),

  route({
    method: "GET",
    path: `${MODELS_PATH}*`,
    operationId: "getOpenAiModel",
    summary: "One configured model; the slash of its name raw or as `%2F`",
    tag,
    scope,
    params: Type.Object({ "*": Type.String() }),
    ok: OpenAiModel,
    handle: ({ request }) => completions.getModel(readModelId(request)),
  }),
];

/** Decoded once; what cannot be decoded is no model's name. */
function readModelId(request: Request): string {
  const encoded = readUrl(request).pathname.slice(MODELS_PATH.length);
  try {
    return decodeURIComponent(encoded);
  } catch {
    return encoded;
  }
}
