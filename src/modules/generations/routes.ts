import { Elysia } from "elysia";
import type { Authenticate } from "../../http/authenticate.ts";
import { acceptsEventStream } from "../../http/event-stream.ts";
import { describe } from "../../http/openapi.ts";
import { Page } from "../../http/pagination.ts";
import { Nullable } from "../../lib/schema.ts";
import { Message } from "../../protocol/message.ts";
import { MessageParams, mapParamsToKey, SentMessage } from "../messages/model.ts";
import type { Streams } from "../messages/service.ts";
import { Model, RegenerateMessage } from "./model.ts";
import type { GenerationService } from "./service.ts";

type Dependencies = {
  generations: GenerationService;
  streams: Streams;
  authenticate: Authenticate;
};

/** Cancel and regenerate below a message, and `/api/v1/models`. */
export function createGenerationRoutes({ generations, streams, authenticate }: Dependencies) {
  return new Elysia({ name: "generations", prefix: "/api/v1" })
    .use(authenticate)
    .post(
      "/conversations/:id/messages/:message_id/cancel",
      async ({ caller, params }) => {
        return generations.cancel(caller, mapParamsToKey(params));
      },
      {
        params: MessageParams,
        ...describe({
          operationId: "cancelGeneration",
          scope: "messages:write",
          summary: "Stop an answer that is being written",
          idempotencyKey: "ignored",
          tag: "messages",
          ok: Message,
          problems: [403],
        }),
      },
    )
    .post(
      "/conversations/:id/messages/:message_id/regenerate",
      async ({ caller, params, body, request, server, set }) => {
        const send = () => generations.regenerate(caller, mapParamsToKey(params), body?.model);
        if (acceptsEventStream(request)) return streams.openReply(caller, params.id, send, request, server);
        set.status = 201;
        return await send();
      },
      {
        params: MessageParams,
        body: Nullable(RegenerateMessage),
        ...describe({
          operationId: "regenerateMessage",
          limit: "ai",
          scope: "messages:write",
          summary: "Have another answer written to the same message",
          description: "The answer before stays. With `Accept: text/event-stream` the new one is streamed.",
          tag: "messages",
          ok: SentMessage,
          status: 201,
          problems: [403, 409],
        }),
      },
    )
    .get("/models", () => ({ data: generations.listModels(), next_cursor: null }), {
      ...describe({
        operationId: "listModels",
        scope: "any",
        summary: "The configured models in fallback order, with their state",
        tag: "models",
        ok: Page(Model),
      }),
    });
}
