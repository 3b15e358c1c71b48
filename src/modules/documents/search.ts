import { BoundedCache } from "../../cache/bounded-cache.ts";
import type { Database } from "../../db/client.ts";
import { toSearchText } from "./plain-text.ts";
import * as queries from "./queries.ts";
import { createSnippets } from "./snippets.ts";

/** The size of the search result cache. Because of the cache, the next page or a repeated search needs no ranking. */
const CACHE_BYTES_MAX = 8 * 1024 * 1024;
/** The approximate memory overhead of a list or map entry. */
const ENTRY_BYTES = 100;
/** The maximum number of bytes per UTF-16 unit in memory. */
const BYTES_PER_CHAR = 2;

export type DocumentMatch = queries.DocumentRow & { rank: number; snippet: string };

/** All matches of a search in an index generation, and the snippets of those that have been returned. */
type CachedSearch = { generation: number; hits: queries.DocumentHit[]; snippets: Map<string, string>; bytes: number };

/** `after` is the last match of the previous page. */
type SearchPage = { limit: number; after: queries.DocumentHit | null };

/**
 * Creates a function that returns matching documents, best first. If there is another page, it returns one extra match
 * beyond `limit`, without a snippet.
 */
export function createDocumentSearch({ database }: { database: Database }) {
  const cache = new BoundedCache<CachedSearch>({ maxSize: CACHE_BYTES_MAX, getSizeBytes: ({ bytes }) => bytes });

  async function rankDocuments(query: string): Promise<CachedSearch> {
    const { generation, hits } = await queries.searchDocuments(database, toSearchText(query));
    const bytes = hits.reduce((sum, { path }) => sum + ENTRY_BYTES + BYTES_PER_CHAR * path.length, ENTRY_BYTES);
    return { generation, hits, snippets: new Map(), bytes };
  }

  /** Reads a page's documents. Also returns whether the index generation is still the same. */
  async function readPageRows({ generation, hits }: CachedSearch, { limit, after }: SearchPage) {
    const start = after === null ? 0 : hits.findIndex((hit) => isAfter(hit, after));
    const pageHits = start < 0 ? [] : hits.slice(start, start + limit + 1);
    const paths = pageHits.map(({ path }) => path);
    const current = await queries.findDocuments(database, paths);
    const rows = pageHits.flatMap(({ path, rank }) => {
      const row = current.rows.get(path);
      return row ? [{ ...row, rank }] : [];
    });
    return { rows, isCurrent: current.generation === generation };
  }

  async function addSnippets(query: string, cached: CachedSearch, paths: string[]): Promise<CachedSearch["snippets"]> {
    const missingPaths = paths.filter((path) => !cached.snippets.has(path));
    const snippets = missingPaths.length > 0 ? await createSnippets(database, missingPaths, query) : [];
    let { bytes } = cached;
    for (const [path, snippet] of snippets) {
      cached.snippets.set(path, snippet);
      bytes += ENTRY_BYTES + BYTES_PER_CHAR * snippet.length;
    }
    // Stores a new value, because the cache measures each value only once.
    cache.set(query, { ...cached, bytes });
    return cached.snippets;
  }

  return async function search(query: string, page: SearchPage): Promise<DocumentMatch[]> {
    let cached = cache.get(query);
    let result = cached && (await readPageRows(cached, page));
    if (!cached || !result?.isCurrent) {
      cached = await rankDocuments(query);
      // If the index changes between these two queries, the next search ranks again.
      result = await readPageRows(cached, page);
    }
    const { rows } = result;
    const paths = rows.slice(0, page.limit).map(({ path }) => path);
    const snippets = await addSnippets(query, cached, paths);
    return rows.map((row) => ({ ...row, snippet: snippets.get(row.path) ?? "" }));
  };
}

/** Returns whether a match comes after the match `after`. Matches are ordered by rank, and then by the path's bytes. */
function isAfter({ rank, path }: queries.DocumentHit, after: queries.DocumentHit): boolean {
  return rank < after.rank || (rank === after.rank && Buffer.compare(Buffer.from(path), Buffer.from(after.path)) > 0);
}
