import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import type { Authenticate } from "../../http/authenticate.ts";
import { acceptsEventStream } from "../../http/event-stream.ts";
import { describe } from "../../http/openapi.ts";
import { Page } from "../../http/pagination.ts";
import { Nullable, UuidParam } from "../../lib/schema.ts";
import { Message, SentMessage } from "../messages/model.ts";
import type { MessageService, Streams } from "../messages/service.ts";
import { Model, RegenerateMessage } from "./model.ts";
import type { GenerationService } from "./service.ts";

const ByMessage = Type.Object({ id: UuidParam(), message_id: UuidParam() });

type Dependencies = {
  generations: GenerationService;
  messages: MessageService;
  streams: Streams;
  authenticate: Authenticate;
};

/** Cancel and regenerate below a message, and `/api/v1/models`. */
export function createGenerationRoutes({ generations, messages, streams, authenticate }: Dependencies) {
  return new Elysia({ name: "generations", prefix: "/api/v1" })
    .use(authenticate)
    .post(
      "/conversations/:id/messages/:message_id/cancel",
      async ({ caller, params }) => {
        await messages.getIn(caller, params.id, params.message_id);
        return generations.cancel(caller, params.message_id);
      },
      {
        params: ByMessage,
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
        await messages.getIn(caller, params.id, params.message_id);
        const send = () => generations.regenerate(caller, params.message_id, body?.model);
        if (acceptsEventStream(request)) return streams.openReply(caller, params.id, send, request, server);
        set.status = 201;
        return await send();
      },
      {
        params: ByMessage,
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
