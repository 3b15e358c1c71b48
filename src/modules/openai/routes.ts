import { Elysia } from "elysia";
import type { Authenticate } from "../../http/authenticate.ts";
import { describe } from "../../http/openapi.ts";
import { readUrl } from "../../http/request-url.ts";
import { answerInChunks, answerWhole } from "./answer.ts";
import { dropNulls, mapToCompletionRequest } from "./map-request.ts";
import { Completion, CreateCompletion, OpenAiModel, OpenAiModelList } from "./model.ts";
import type { CompletionService } from "./service.ts";

const MODELS_PATH = "/v1/models/";

/** What OpenAI's own clients speak: `/v1/chat/completions` and `/v1/models`. Errors there have OpenAI's shape. */
export function createOpenAiRoutes(deps: { completions: CompletionService; authenticate: Authenticate }) {
  const { completions } = deps;
  return new Elysia({ name: "openai", prefix: "/v1" })
    .use(deps.authenticate)
    .post(
      "/chat/completions",
      async ({ caller, body, request, server }) => {
        const asked = mapToCompletionRequest(body);
        const completion = await completions.start(caller, asked);
        const connection = { request, server };
        if (asked.isStreamed) return answerInChunks(completion, asked.includesUsage, connection);
        return answerWhole(completion, connection);
      },
      {
        transform: ({ body }) => dropNulls(body),
        body: CreateCompletion,
        ...describe({
          operationId: "createChatCompletion",
          limit: "ai",
          scope: "chat:completions",
          summary: "An answer of a model, as OpenAI's Chat Completions give it",
          description:
            "With `stream` the answer comes as `chat.completion.chunk` events and ends with `[DONE]`. A failure in " +
            "mid-stream is an event with `error`, without `[DONE]`. Fields that are not listed are ignored.",
          tag: "openai",
          ok: Completion,
          problems: [403, 404, 429],
        }),
      },
    )
    .get("/models", () => ({ object: "list" as const, data: completions.listModels() }), {
      ...describe({
        operationId: "listOpenAiModels",
        scope: "chat:completions",
        summary: "The configured models, as OpenAI lists them",
        tag: "openai",
        ok: OpenAiModelList,
      }),
    })
    .get("/models/*", ({ request }) => completions.getModel(readModelId(request)), {
      ...describe({
        operationId: "getOpenAiModel",
        scope: "chat:completions",
        summary: "One configured model; the slash of its name raw or as `%2F`",
        tag: "openai",
        ok: OpenAiModel,
        problems: [404],
      }),
    });
}

/** Decoded once; what cannot be decoded is no model's name. */
function readModelId(request: Request): string {
  const encoded = readUrl(request).pathname.slice(MODELS_PATH.length);
  try {
    return decodeURIComponent(encoded);
  } catch {
    return encoded;
  }
}
