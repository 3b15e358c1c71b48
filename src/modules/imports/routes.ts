import { Type } from "@sinclair/typebox";
import { createPage, Page, PageQuery, parseIdCursor, parsePageQuery } from "../../http/pagination.ts";
import { type Route, route } from "../../http/route.ts";
import { UuidParam } from "../../lib/schema.ts";
import { Import, ImportSource, ImportSummary } from "./model.ts";
import { mapRowToSummary } from "./queries.ts";
import type { ImportService } from "./service.ts";

const ImportParams = Type.Object({ id: UuidParam() });

const IMPORTS = "/api/v1/imports";
const tag = "imports";

type Dependencies = { imports: ImportService };

/** Creates the routes of `/api/v1/imports`, which import conversations from other products. */
export const createImportRoutes = ({ imports }: Dependencies): Route[] => [
  route({
    method: "POST",
    path: IMPORTS,
    operationId: "createImport",
    summary: "Import conversations from a ChatGPT or Claude export",
    description:
      "Send `conversations.json`, or the ZIP archive that contains it, as the form field `file` or as the request body. The limit is " +
      "`IMPORT_BYTES_MAX`. The response is sent when the file is stored; a job then imports it. Conversations that were imported before are " +
      "skipped, so you can send the same file again. Each user can run one import at a time. An API key also needs `messages:write`.",
    tag,
    scope: "conversations:write",
    // Sending the same file again doesn't import anything twice.
    idempotencyKey: "ignored",
    streamsBody: true,
    rawBody: {
      schema: Type.Array(Type.Object({}, { additionalProperties: true }), {
        maxItems: Number.MAX_SAFE_INTEGER,
        description: "The conversations of the export.",
      }),
      mediaTypes: ["application/json", "application/zip"],
      form: Type.Object({ file: Type.String({ format: "binary" }) }),
    },
    query: Type.Object({ source: ImportSource }),
    ok: Import,
    status: 202,
    responseHeaders: ["Location"],
    problems: [409],
    handle: async ({ caller, query, request, set }) => {
      const queuedImport = await imports.upload(caller, query.source, request);
      set.headers.location = `${IMPORTS}/${queuedImport.id}`;
      return queuedImport;
    },
  }),

  route({
    method: "GET",
    path: IMPORTS,
    operationId: "listImports",
    summary: "List my imports, newest first, without their reports",
    tag,
    scope: "conversations:read",
    query: Type.Object(PageQuery),
    ok: Page(ImportSummary),
    handle: async ({ caller, query, request, set }) => {
      const { limit, after } = parsePageQuery(query, 1);
      const rows = await imports.list(caller, parseIdCursor(after), limit + 1);
      return createPage(rows, limit, (row) => [row.id], mapRowToSummary, { request, headers: set.headers });
    },
  }),

  route({
    method: "GET",
    path: `${IMPORTS}/:id`,
    operationId: "getImport",
    summary: "Get the progress and report of an import",
    tag,
    scope: "conversations:read",
    params: ImportParams,
    ok: Import,
    handle: ({ caller, params }) => imports.get(caller, params.id),
  }),
];
