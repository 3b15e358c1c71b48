import { BoundedCache } from "../../cache/bounded-cache.ts";
import type { Database } from "../../db/client.ts";
import { toSearchText } from "./plain-text.ts";
import * as queries from "./queries.ts";
import { createSnippets } from "./snippets.ts";

/** Size of the cache of search results, with which the next page or a repeated search needs no ranking. */
const CACHE_BYTES_MAX = 8 * 1024 * 1024;
/** Approximate memory overhead of a list or map entry. */
const ENTRY_BYTES = 100;
/** The maximum bytes per UTF-16 unit in memory. */
const BYTES_PER_CHAR = 2;

export type DocumentMatch = queries.DocumentRow & { rank: number; snippet: string };

/** All matches of a search in one index generation; snippets only for the ones that have been returned. */
type Found = { generation: number; hits: queries.Hit[]; snippets: Map<string, string>; bytes: number };

/** `after` is the last match of the previous page. */
type SearchPage = { limit: number; after: queries.Hit | null };

/** Creates the search, which returns matching documents, best first. It returns one more than `limit`, without a snippet. */
export function createSearch({ database }: { database: Database }) {
  const cache = new BoundedCache<Found>({ max: CACHE_BYTES_MAX, bytesOf: ({ bytes }) => bytes });

  async function rank(query: string): Promise<Found> {
    const { generation, hits } = await queries.searchDocuments(database, toSearchText(query));
    const bytes = hits.reduce((sum, { path }) => sum + ENTRY_BYTES + BYTES_PER_CHAR * path.length, ENTRY_BYTES);
    return { generation, hits, snippets: new Map(), bytes };
  }

  /** Reads a page's documents, and whether the index generation is still the same. */
  async function read({ generation, hits }: Found, { limit, after }: SearchPage) {
    const start = after === null ? 0 : hits.findIndex((hit) => isAfter(hit, after));
    const shown = start < 0 ? [] : hits.slice(start, start + limit + 1);
    const paths = shown.map(({ path }) => path);
    const now = await queries.findDocuments(database, paths);
    const rows = shown.flatMap(({ path, rank }) => {
      const row = now.rows.get(path);
      return row ? [{ ...row, rank }] : [];
    });
    return { rows, isCurrent: now.generation === generation };
  }

  async function addSnippets(query: string, found: Found, paths: string[]): Promise<Found["snippets"]> {
    const missing = paths.filter((path) => !found.snippets.has(path));
    const snippets = missing.length > 0 ? await createSnippets(database, missing, query) : [];
    let { bytes } = found;
    for (const [path, snippet] of snippets) {
      found.snippets.set(path, snippet);
      bytes += ENTRY_BYTES + BYTES_PER_CHAR * snippet.length;
    }
    // Store a new value, because the cache measures each value only once.
    cache.set(query, { ...found, bytes });
    return found.snippets;
  }

  return async function search(query: string, page: SearchPage): Promise<DocumentMatch[]> {
    let found = cache.get(query);
    let shown = found && (await read(found, page));
    if (!found || !shown?.isCurrent) {
      found = await rank(query);
      // If the index has just changed, the next search ranks again.
      shown = await read(found, page);
    }
    const { rows } = shown;
    const paths = rows.slice(0, page.limit).map(({ path }) => path);
    const snippets = await addSnippets(query, found, paths);
    return rows.map((row) => ({ ...row, snippet: snippets.get(row.path) ?? "" }));
  };
}

/** Whether a match comes after another: ordered by rank, then by the path's bytes. */
function isAfter({ rank, path }: queries.Hit, after: queries.Hit): boolean {
  return rank < after.rank || (rank === after.rank && Buffer.compare(Buffer.from(path), Buffer.from(after.path)) > 0);
}
