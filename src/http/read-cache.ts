import { type LoadedValue, TaggedCache } from "../cache/tagged-cache.ts";
import type { Metrics } from "../lib/metrics.ts";
import { computeTag, respondWithTag } from "./etag.ts";
import { getRawQuery } from "./request-url.ts";

/** Maximum age of an entry. If an invalidation message is lost, the entry is outdated for at most this time. */
const TTL_MS = 1_000;
/** Maximum memory for all entries. */
const BYTES_MAX = 8 * 1024 * 1024;
/** Maximum size of a cached response. */
export const CACHED_BODY_BYTES_MAX = 64 * 1024;
/** Maximum length of a query whose response is cached. Clients rarely repeat longer queries. */
export const CACHED_QUERY_CHARS_MAX = 256;
/** Memory used by a UTF-16 code unit. */
const BYTES_PER_CHAR = 2;

/** The kind of a cached response, which is also a metric label. */
type CacheName =
  | "conversations"
  | "conversation"
  | "members"
  | "history"
  | "history_page"
  | "prompts"
  | "prompt"
  | "documents";

/** A JSON response body with its entity tag. `link` is the `Link` header with the next page. */
export type TaggedBody = { text: string; tag: string; link: string | undefined };

export function createTaggedBody(value: unknown, link?: string): TaggedBody {
  const text = JSON.stringify(value);
  return { text, tag: computeTag(text), link };
}

/** Returns the cache tag of a user's prompts. */
export const createPromptsTag = (userId: string): string => `prompts ${userId}`;
export const DOCUMENTS_TAG = "documents";

export const getBodySizeBytes = ({ text, link = "" }: TaggedBody): number =>
  BYTES_PER_CHAR * (text.length + link.length);

/** Responds with the body, or with 304 if the client already has it. */
export function respondWithBody(request: Request, { text, tag, link }: TaggedBody): Response {
  return respondWithTag(request, tag, text, {
    "content-type": "application/json",
    ...(link !== undefined && { link }),
  });
}

type CachedRead = {
  cache: CacheName;
  /** Identifies the resource. Must include the user id if the response depends on the caller. */
  subject: string;
  tags: readonly string[];
  /** Whether `load` may return additional tags. */
  canAddTags?: boolean;
  load(willBeCached: boolean): Promise<LoadedValue<TaggedBody>>;
};

/** A cache of responses to frequent reads. */
export interface ReadCache {
  /** Responds from the cache, or with the loaded body. @throws any error thrown by `load`. */
  respond(request: Request, read: CachedRead): Promise<Response>;
  /** Removes all entries with this tag. */
  invalidate(tag: string): void;
  invalidateAll(): void;
}

/** Creates the cache. @param isReceivingChanges whether this instance currently receives all invalidation messages. */
export function createReadCache({
  metrics,
  isReceivingChanges,
}: {
  metrics: Metrics;
  isReceivingChanges: () => boolean;
}): ReadCache {
  const bodies = new TaggedCache<TaggedBody>({
    bytesMax: BYTES_MAX,
    entryBytesMax: CACHED_BODY_BYTES_MAX,
    ttlMs: TTL_MS,
    getSizeBytes: getBodySizeBytes,
    isReceivingChanges,
  });

  return {
    async respond(request, { cache, subject, load, ...read }) {
      const search = getRawQuery(request);
      if (search.length > CACHED_QUERY_CHARS_MAX) return respondWithBody(request, (await load(false)).value);
      const { isHit, value } = await bodies.find({ ...read, key: `${cache} ${subject} ${search}`, load });
      metrics.cacheRequests.inc({ cache, result: isHit ? "hit" : "miss" });
      if (!isHit) metrics.cacheBytes.set({ cache: "responses" }, bodies.size.bytes);
      return respondWithBody(request, value);
    },
    invalidate: (tag) => bodies.invalidate(tag),
    invalidateAll: () => bodies.invalidateAll(),
  };
}
