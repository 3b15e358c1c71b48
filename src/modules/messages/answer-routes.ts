import { acceptsEventStream } from "../../http/event-stream.ts";
import { type Route, route } from "../../http/route.ts";
import { Nullable } from "../../lib/schema.ts";
import { Message } from "../../protocol/message.ts";
import { RegenerateMessage } from "../generations/model.ts";
import type { GenerationService } from "../generations/service.ts";
import { MessageParams, SentMessage } from "./model.ts";
import type { Streams } from "./service.ts";

const MESSAGE = "/api/v1/conversations/:id/messages/:message_id";
const tag = "messages";

type Dependencies = { generations: GenerationService; streams: Streams };

/** Creates the routes `…/messages/{message_id}/cancel` and `…/regenerate`. */
export const createAnswerRoutes = ({ generations, streams }: Dependencies): Route[] => [
  route({
    method: "POST",
    path: `${MESSAGE}/cancel`,
    operationId: "cancelGeneration",
    summary: "Stop an answer that is being written",
    tag,
    scope: "messages:write",
    idempotencyKey: "ignored",
    params: MessageParams,
    ok: Message,
    handle: ({ caller, params }) => generations.cancel(caller, params.id, params.message_id),
  }),

  route({
    method: "POST",
    path: `${MESSAGE}/regenerate`,
    operationId: "regenerateMessage",
    summary: "Request another answer to the same message",
    description: "The previous answer is kept. With `Accept: text/event-stream`, the new one is streamed.",
    tag,
    scope: "messages:write",
    limit: "ai",
    params: MessageParams,
    body: Nullable(RegenerateMessage),
    ok: SentMessage,
    status: 201,
    stream: "`message.created` of the new answer, its text as `message.delta`, and `message.completed`.",
    problems: [409],
    handle: async ({ caller, params, body, request, server, set }) => {
      const send = () => generations.regenerate(caller, params.id, params.message_id, body?.model);
      if (!acceptsEventStream(request)) return send();
      set.status = 200;
      return streams.openReply(caller, params.id, send, request, server);
    },
  }),
];
