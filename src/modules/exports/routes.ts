import { Type } from "@sinclair/typebox";
import { createAttachmentHeader } from "../../http/content-disposition.ts";
import { getRequestId } from "../../http/request-id.ts";
import { type Route, route } from "../../http/route.ts";
import { createTextStream } from "../../http/stream-text.ts";
import type { Log } from "../../lib/log.ts";
import { Problem } from "../../lib/problem.ts";
import { UuidParam } from "../../lib/schema.ts";
import { ConversationExport, ExportFormat } from "./model.ts";
import type { ExportService } from "./service.ts";

const files: Record<ExportFormat, { type: string; extension: string }> = {
  markdown: { type: "text/markdown; charset=utf-8", extension: "md" },
  json: { type: "application/json", extension: "json" },
  jsonl: { type: "application/jsonl", extension: "jsonl" },
};

type Dependencies = { exports: ExportService; log: Log };

/** Creates the route `/api/v1/conversations/{id}/export`. */
export const createExportRoutes = ({ exports, log }: Dependencies): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/conversations/:id/export",
    operationId: "exportConversation",
    summary: "Download a conversation as Markdown, JSON or JSON lines",
    description:
      "Streamed. A response in progress is exported with its text so far, and deleted messages without their text.",
    tag: "conversations",
    scope: "messages:read",
    expensive: "download",
    params: Type.Object({ id: UuidParam() }),
    query: Type.Object({ format: Type.Optional(ExportFormat) }),
    ok: ConversationExport,
    mediaTypes: ["text/markdown", "application/json", "application/jsonl"],
    responseHeaders: ["Content-Disposition"],
    handle: async ({ caller, params, query, set }) => {
      const format = query.format ?? "markdown";
      const { title, chunks } = await exports.open(caller, params.id, format);
      const logFields = { request_id: getRequestId(set) };
      const onError = (err: unknown) => {
        // Losing access isn't an error.
        if (err instanceof Problem)
          log.info({ ...logFields, code: err.code }, "export aborted: the caller lost access");
        else log.error({ ...logFields, err }, "export failed");
      };
      const { type, extension } = files[format];
      return new Response(createTextStream(chunks, onError), {
        headers: {
          "content-type": type,
          "content-disposition": createAttachmentHeader(title, "conversation", extension),
          "cache-control": "no-store",
        },
      });
    },
  }),
];
