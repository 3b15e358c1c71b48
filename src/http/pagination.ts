import { type TSchema, Type } from "@sinclair/typebox";
import { Problem } from "../lib/problem.ts";
import { isUuid, Named, Nullable, QueryInteger } from "../lib/schema.ts";
import { parseRequestUrl } from "./request-url.ts";

const PAGE_LIMIT_DEFAULT = 50;
const PAGE_LIMIT_MAX = 200;
const CURSOR_CHARS_MAX = 512;

/** The query parameters of lists. */
export const PageQuery = {
  limit: Type.Optional(
    QueryInteger({
      minimum: 1,
      description: "Rows per page. A larger value is lowered to the maximum.",
      documented: { maximum: PAGE_LIMIT_MAX, default: PAGE_LIMIT_DEFAULT },
    }),
  ),
  cursor: Type.Optional(
    Type.String({ maxLength: CURSOR_CHARS_MAX, description: "`next_cursor` of the previous page." }),
  ),
};

/** Creates the schema of a page of a list. Its name is derived from the item's. */
export const Page = <T extends TSchema>(item: T) =>
  Named(
    `${item.title}Page`,
    Type.Object({
      data: Type.Array(item),
      next_cursor: Nullable(Type.String(), {
        description: "Send it as `cursor` to get the next page. Null on the last page.",
      }),
    }),
  );

export type PageRequest = { limit: number; after: string[] | null };

/**
 * Parses `limit` and `cursor`. `after` is the sort key of the previous page's last row.
 * @param columns the number of values in the sort key.
 * @throws Problem `bad_cursor`.
 */
export function parsePageQuery(query: { limit?: number; cursor?: string }, columns: number): PageRequest {
  const limit = Math.min(query.limit ?? PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX);
  if (query.cursor === undefined) return { limit, after: null };
  const after = decodeCursor(query.cursor);
  if (after?.length !== columns) throw createBadCursorProblem();
  return { limit, after };
}

export const createBadCursorProblem = (): Problem =>
  new Problem("bad_cursor", "The cursor is invalid. Use `next_cursor` of this list, unchanged.");

/** Returns the id after which a list sorted by id continues, or null for the first page. @throws Problem `bad_cursor`. */
export function parseIdCursor(after: string[] | null): string | null {
  const [id = null] = after ?? [];
  if (id !== null && !isUuid(id)) throw createBadCursorProblem();
  return id;
}

/**
 * Creates a page from up to `limit + 1` rows. If there are more rows than `limit`, the page links to the next one.
 * @param getSortKey returns the values of the row that determine its position in the list.
 */
export function createPage<Row, Item>(
  rows: readonly Row[],
  limit: number,
  getSortKey: (row: Row) => string[],
  mapRow: (row: Row) => Item,
  { request, headers }: { request: Request; headers: Record<string, string | number | undefined> },
): { data: Item[]; next_cursor: string | null } {
  const pageRows = rows.slice(0, limit);
  const lastRow = pageRows.at(-1);
  const next_cursor = rows.length > limit && lastRow !== undefined ? encodeCursor(getSortKey(lastRow)) : null;
  if (next_cursor !== null) {
    const nextUrl = parseRequestUrl(request);
    nextUrl.searchParams.set("cursor", next_cursor);
    headers.link = `<${nextUrl.pathname}${nextUrl.search}>; rel="next"`;
  }
  return { data: pageRows.map(mapRow), next_cursor };
}

function encodeCursor(key: string[]): string {
  return Buffer.from(JSON.stringify(["v1", ...key])).toString("base64url");
}

function decodeCursor(cursor: string): string[] | null {
  try {
    const parts: unknown = JSON.parse(Buffer.from(cursor, "base64url").toString());
    if (!Array.isArray(parts) || parts[0] !== "v1") return null;
    const key = parts.slice(1);
    return key.every((part) => typeof part === "string" && part.length < CURSOR_CHARS_MAX && !part.includes("\0"))
      ? key
      : null;
  } catch {
    return null;
  }
}
