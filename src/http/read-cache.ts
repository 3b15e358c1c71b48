import { type Loaded, TaggedCache } from "../cache/tagged-cache.ts";
import type { Metrics } from "../lib/metrics.ts";
import { hashTag, respondWithTag } from "./etag.ts";
import { readSearch } from "./request-url.ts";

/** Expiry of an entry: bounds how long a change without an invalidation message goes unnoticed. */
const TTL_MS = 1_000;
/** Memory of all entries. */
const BYTES_MAX = 8 * 1024 * 1024;
/** Longer responses are not cached. */
export const CACHED_BODY_BYTES_MAX = 64 * 1024;
/** Longer queries are not cached: clients rarely repeat them. */
export const SEARCH_CHARS_MAX = 256;
/** Upper bound for a UTF-16 unit in memory. */
const BYTES_PER_CHAR = 2;

/** Kinds of cached responses; the name is a label of the metrics. */
type CacheName =
  | "conversations"
  | "conversation"
  | "members"
  | "history"
  | "history_page"
  | "prompts"
  | "prompt"
  | "documents";

/** A response body: its JSON, the tag of this state, and the link to the next page. */
export type TaggedBody = { text: string; tag: string; link: string | undefined };

export function createTaggedBody(value: unknown, link?: string): TaggedBody {
  const text = JSON.stringify(value);
  return { text, tag: hashTag(text), link };
}

/** The cache tag of a user's prompts. */
export const createPromptsTag = (userId: string): string => `prompts ${userId}`;
export const DOCUMENTS_TAG = "documents";

export const bytesOfBody = ({ text, link = "" }: TaggedBody): number => BYTES_PER_CHAR * (text.length + link.length);

/** Responds with the body, or with 304 if the client has it. */
export function respondWithBody(request: Request, { text, tag, link }: TaggedBody): Response {
  return respondWithTag(request, tag, text, {
    "content-type": "application/json",
    ...(link !== undefined && { link }),
  });
}

type CachedRead = {
  cache: CacheName;
  /** Identifies the response. Must include the user id if the response depends on the caller. */
  of: string;
  tags: readonly string[];
  /** Whether `load` may add tags. */
  mayAddTags?: boolean;
  load(isKept: boolean): Promise<Loaded<TaggedBody>>;
};

/** Cached responses to frequent reads. Access is part of the key: only callers with access find the response. */
export interface ReadCache {
  /** The response to a read, cached by subject and query. @throws whatever `load` throws. */
  respond(request: Request, read: CachedRead): Promise<Response>;
  /** Invalidates everything with this tag. */
  forget(tag: string): void;
  forgetAll(): void;
}

/** @param receivesChanges whether this instance currently receives every invalidation message. */
export function createReadCache({
  metrics,
  receivesChanges,
}: {
  metrics: Metrics;
  receivesChanges: () => boolean;
}): ReadCache {
  const bodies = new TaggedCache<TaggedBody>({
    bytesMax: BYTES_MAX,
    entryBytesMax: CACHED_BODY_BYTES_MAX,
    ttlMs: TTL_MS,
    bytesOf: bytesOfBody,
    receivesChanges,
  });

  return {
    async respond(request, { cache, of, load, ...read }) {
      const search = readSearch(request);
      if (search.length > SEARCH_CHARS_MAX) return respondWithBody(request, (await load(false)).value);
      const { isHit, value } = await bodies.find({ ...read, key: `${cache} ${of} ${search}`, load });
      metrics.cacheRequests.inc({ cache, result: isHit ? "hit" : "miss" });
      if (!isHit) metrics.cacheBytes.set({ cache: "responses" }, bodies.size.bytes);
      return respondWithBody(request, value);
    },
    forget: (tag) => bodies.forget(tag),
    forgetAll: () => bodies.forgetAll(),
  };
}
