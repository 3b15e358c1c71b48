import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import type { Authenticate } from "../../http/authenticate.ts";
import { describe } from "../../http/openapi.ts";
import { UuidParam } from "../../lib/schema.ts";
import { PreviewPrompt, PromptPreview } from "../prompts/model.ts";
import type { Previews } from "./previews.ts";

const ById = Type.Object({ id: UuidParam() });

type Dependencies = { previews: Previews; authenticate: Authenticate };

/** `/api/v1/prompts/{id}/preview`. */
export function createPreviewRoutes({ previews, authenticate }: Dependencies) {
  return new Elysia({ name: "previews", prefix: "/api/v1/prompts" })
    .use(authenticate)
    .post(
      "/:id/preview",
      ({ caller, params, body }) => previews.preview(caller, params.id, body?.conversation_id?.toLowerCase()),
      {
        params: ById,
        body: PreviewPrompt,
        ...describe({
          operationId: "previewPrompt",
          scope: "conversations:read",
          summary: "What a model would be sent with this prompt",
          idempotencyKey: "ignored",
          description:
            "Nothing is sent or stored. With a conversation: as if an answer to its newest message began now.",
          tag: "prompts",
          ok: PromptPreview,
        }),
      },
    );
}
