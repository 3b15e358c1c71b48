import { Type } from "@sinclair/typebox";
import { type Route, route } from "../../http/route.ts";
import { UuidParam } from "../../lib/schema.ts";
import type { PreviewBuilder } from "../generations/service.ts";
import { PreviewPrompt, PromptPreview } from "./model.ts";

type Dependencies = { previews: PreviewBuilder };

/** Creates the route `/api/v1/prompts/{id}/preview`. */
export const createPreviewRoutes = ({ previews }: Dependencies): Route[] => [
  route({
    method: "POST",
    path: "/api/v1/prompts/:id/preview",
    operationId: "previewPrompt",
    summary: "Preview what a model would receive with this prompt",
    description:
      "Nothing is sent or stored. With a conversation, the preview shows what an answer to its newest message would receive now.",
    tag: "prompts",
    scope: "conversations:read",
    idempotencyKey: "ignored",
    expensive: "always",
    params: Type.Object({ id: UuidParam() }),
    body: PreviewPrompt,
    ok: PromptPreview,
    handle: ({ caller, params, body }) => previews.preview(caller, params.id, body?.conversation_id?.toLowerCase()),
  }),
];
