import type { Caller } from "../../access/caller.ts";
import { BoundedCache } from "../../cache/bounded-cache.ts";
import type { LoadedValue } from "../../cache/tagged-cache.ts";
import { createPage, parsePageQuery } from "../../http/pagination.ts";
import {
  CACHED_BODY_BYTES_MAX,
  CACHED_QUERY_CHARS_MAX,
  createTaggedBody,
  getBodySizeBytes,
  type TaggedBody,
} from "../../http/read-cache.ts";
import { getRawQuery } from "../../http/request-url.ts";
import type { Metrics } from "../../lib/metrics.ts";
import type { Message } from "../../protocol/message.ts";
import { type HistorySlice, type PageVersion, parseRange, type RangeQuery, type SeqRange } from "./range.ts";

/** Maximum total size of the cached pages, in bytes. */
const PAGES_BYTES_MAX = 8 * 1024 * 1024;
/** Cached pages never miss changes that Parley made. Changes made directly in the database appear after this time. */
const PAGE_TTL_MS = 1_000;
/** Estimated memory overhead of a cached page, and of each author's name in its `PageVersion`. */
const PAGE_OVERHEAD_BYTES = 1_000;
const AUTHOR_OVERHEAD_BYTES = 200;

type CachedPage = { version: PageVersion; body: TaggedBody };

type Dependencies = {
  messages: {
    list(
      caller: Caller,
      conversationId: string,
      range: SeqRange,
      limit: number,
      knownVersion?: PageVersion,
    ): Promise<HistorySlice | "unchanged">;
  };
  metrics: Metrics;
  isCacheEnabled: boolean;
};

/** Reads message histories, with a cache of serialized pages. */
export interface History {
  /**
   * Reads a page. Members only. Each read queries the database to check access and whether a cached page is current. Therefore,
   * members can share cached pages, and pages include changes made by other instances.
   * @throws Problem `not_found`, `bad_cursor`.
   */
  read(caller: Caller, conversationId: string, query: RangeQuery, request: Request): Promise<LoadedValue<TaggedBody>>;
}

export function createHistory({ messages, metrics, isCacheEnabled }: Dependencies): History {
  const pages = new BoundedCache<CachedPage>({
    maxSize: PAGES_BYTES_MAX,
    ttlMs: PAGE_TTL_MS,
    getSizeBytes: ({ body, version }) =>
      getBodySizeBytes(body) + AUTHOR_OVERHEAD_BYTES * version.names.length + PAGE_OVERHEAD_BYTES,
  });

  function cachePage(key: string, version: PageVersion, body: TaggedBody): void {
    if (getBodySizeBytes(body) > CACHED_BODY_BYTES_MAX) return;
    pages.set(key, { version, body });
    metrics.cacheBytes.set({ cache: "history_page" }, pages.bytes);
  }

  return {
    async read(caller, conversationId, query, request) {
      const { limit, after } = parsePageQuery(query, 2);
      const range = parseRange(after, query);
      const rawQuery = getRawQuery(request);
      const canCache = isCacheEnabled && rawQuery.length <= CACHED_QUERY_CHARS_MAX;
      const key = `${conversationId} ${rawQuery}`;
      const cachedPage = canCache ? pages.get(key) : undefined;
      const slice = await messages.list(caller, conversationId, range, limit, cachedPage?.version);
      metrics.cacheRequests.inc({ cache: "history_page", result: slice === "unchanged" ? "hit" : "miss" });
      if (slice === "unchanged") {
        if (!cachedPage) throw new Error("The page is unchanged, but it isn't cached.");
        // The caller must not cache the page, because this cache may drop it earlier than the caller would.
        return { value: cachedPage.body, isUncacheable: true };
      }
      const isForward = range.afterSeq !== undefined && range.beforeSeq === undefined;
      const createCursor = ({ seq }: Message) => [isForward ? "after" : "before", String(seq)];
      const headers: { link?: string } = {};
      const { rows, fittingCount, version } = slice;
      const page = createPage(rows, Math.min(limit, fittingCount), createCursor, (message) => message, {
        request,
        headers,
      });
      // The cursor depends on the order in which the rows were read. The page itself is in conversation order.
      const body = createTaggedBody(isForward ? page : { ...page, data: page.data.reverse() }, headers.link);
      if (version && canCache) cachePage(key, version, body);
      return { value: body, isUncacheable: version === null };
    },
  };
}
