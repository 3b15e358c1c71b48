import { type Static, Type } from "@sinclair/typebox";
import type { LoadedValue } from "../../cache/tagged-cache.ts";
import { computeTag, respondWithTag } from "../../http/etag.ts";
import { createPage, Page, parsePageQuery } from "../../http/pagination.ts";
import {
  createTaggedBody,
  DOCUMENTS_TAG,
  type ReadCache,
  respondWithBody,
  type TaggedBody,
} from "../../http/read-cache.ts";
import { parseRequestUrl } from "../../http/request-url.ts";
import { type Route, route } from "../../http/route.ts";
import { createNotFoundProblem, Problem } from "../../lib/problem.ts";
import { pagePolicy } from "./html-page.ts";
import { parseMarkdown } from "./markdown.ts";
import { Document, DocumentQuery, DocumentSummary } from "./model.ts";
import { createPageRenderer } from "./page-cache.ts";
import type { DocumentRow } from "./queries.ts";
import { chooseRepresentation, representations } from "./representations.ts";
import type { DocumentMatch, DocumentService } from "./service.ts";
import type { DocumentFile } from "./source.ts";

const DOCUMENTS = "/api/v1/documents";
const tag = "documents";

type Dependencies = { documents: DocumentService; reads: ReadCache };

/** Creates the routes of `/api/v1/documents`: listing, searching and reading documents. */
export function createDocumentRoutes({ documents, reads }: Dependencies): Route[] {
  const renderPage = createPageRenderer();

  async function respond(request: Request): Promise<Response> {
    const path = parseDocumentPath(request);
    const representation = chooseRepresentation(request.headers.get("accept"));
    const file = path === null ? null : await documents.get(path);
    if (file === null) throw createNotFoundProblem("document");
    if (representation === null)
      throw new Problem("not_acceptable", `Documents are available as ${representations.join(", ")}.`);
    // This replaces the default `Vary` header, so it must include the default value.
    const headers = { "content-type": `${representation}; charset=utf-8`, vary: "Accept, Origin" };
    if (representation === "text/markdown")
      return respondWithTag(request, computeTag(file.content), file.content, headers);
    if (representation === "text/html") {
      const page = renderPage(file);
      return respondWithTag(request, computeTag(page), page, { ...headers, "content-security-policy": pagePolicy });
    }
    const body = JSON.stringify(mapToDocument(file));
    return respondWithTag(request, computeTag(body), body, { ...headers, "content-type": representation });
  }

  async function list(query: Static<typeof DocumentQuery>, request: Request): Promise<LoadedValue<TaggedBody>> {
    const headers: { link?: string } = {};
    const context = { request, headers };
    const searchText = query.q?.trim();
    const page = parsePageQuery(query, searchText ? 2 : 1);
    const getCursor = ({ rank, path }: DocumentMatch) => [String(rank), path];
    const result = searchText
      ? createPage(await documents.search(searchText, page), page.limit, getCursor, mapToMatch, context)
      : createPage(await documents.list(page), page.limit, ({ path }) => [path], mapToSummary, context);
    return { value: createTaggedBody(result, headers.link) };
  }

  const documentRoute = {
    method: "GET",
    operationId: "getDocument",
    summary: "Get a document",
    description: "Slashes in the path can be raw or encoded as `%2F`. `Accept` selects the format. Default: Markdown.",
    tag,
    scope: "any",
    ok: Document,
    mediaTypes: representations,
    isTagged: true,
    problems: [406],
    handle: ({ request }: { request: Request }) => respond(request),
  } as const;

  return [
    route({
      method: "GET",
      path: DOCUMENTS,
      operationId: "listDocuments",
      summary: "List documents by path, or search them with `q`, best match first",
      tag,
      scope: "any",
      expensive: "search",
      query: DocumentQuery,
      ok: Page(DocumentSummary),
      isTagged: true,
      handle: async ({ query, request }) => {
        // Searches aren't cached. The limit on expensive reads applies to them (expensive-reads.ts).
        if (query.q?.trim()) return respondWithBody(request, (await list(query, request)).value);
        // Every user can read all documents.
        const load = () => list(query, request);
        return reads.respond(request, { cache: "documents", subject: "", tags: [DOCUMENTS_TAG], load });
      },
    }),
    route({ ...documentRoute, path: `${DOCUMENTS}/:path`, params: Type.Object({ path: Type.String() }) }),
    // With raw slashes, the path has several segments.
    route({ ...documentRoute, path: `${DOCUMENTS}/*`, isHidden: true }),
  ];
}

/** Returns the path after the prefix, decoded exactly once, or null if its encoding is invalid. */
function parseDocumentPath(request: Request): string | null {
  const { pathname } = parseRequestUrl(request);
  try {
    return decodeURIComponent(pathname.slice(DOCUMENTS.length + 1));
  } catch {
    return null;
  }
}

function mapToSummary({ path, title, size, updated_at, headings }: DocumentRow): DocumentSummary {
  return { path, title, size, updated_at: updated_at.toISOString(), headings };
}

function mapToMatch(row: DocumentMatch): DocumentSummary {
  return { ...mapToSummary(row), snippet: row.snippet, rank: row.rank };
}

function mapToDocument({ path, size, updatedAt, content }: DocumentFile): Document {
  const { title, headings } = parseMarkdown(path, content);
  return { path, title, size, updated_at: updatedAt.toISOString(), headings, content };
}
