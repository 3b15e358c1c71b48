import { Problem } from "../lib/problem.ts";

/**
 * Responds with an `ETag`, or with 304 if the caller already has this state (RFC 9110, If-None-Match: weak comparison).
 * `tag` names the state: a hash, or a version with a time.
 */
export function respondWithTag(
  request: Request,
  tag: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string>,
): Response {
  const etag = `"${tag}"`;
  const all = { "cache-control": "private, no-cache", ...headers, etag };
  if (matchesTag(request.headers.get("if-none-match"), etag)) {
    // They describe a body, and there is none.
    const { "content-type": _, "content-encoding": __, ...kept } = all as Record<string, string>;
    return new Response(null, { status: 304, headers: kept });
  }
  return new Response(body, { headers: all });
}

/**
 * Checks `If-Match`. A change calls it under its lock, with the current state as a read would return it.
 * @throws Problem `precondition_failed` if `If-Match` names other states.
 */
export type Precondition = (current: object) => void;

/** The precondition of a request; undefined without `If-Match`, so that the change needs no lock for it. */
export function readPrecondition(request: Request): Precondition | undefined {
  const header = request.headers.get("if-match");
  if (header === null) return undefined;
  const tags = [...header.matchAll(entityTag)].map(([tag]) => tag);
  return (current) => {
    // RFC 9110, strong comparison: a weak tag (`W/"…"`) matches nothing.
    if (header.trim() === "*" || tags.includes(`"${tagOf(current)}"`)) return;
    throw new Problem(
      "precondition_failed",
      "The resource has changed since the version in If-Match. Nothing was changed. Read it again and send the new ETag.",
    );
  };
}

/** One tag of a list; text of another form never matches. A tag may contain commas. */
const entityTag = /(?:W\/)?"[\x21\x23-\x7e\x80-\xff]*"/gi;

/** The tag of a state whose JSON is the response body. */
const tagOf = (state: object): string => hashTag(JSON.stringify(state));

/** Tags the response to a change, so that the next change needs no read before it. */
export function tagAnswer<T extends object>(headers: Record<string, string | number | undefined>, state: T): T {
  headers.etag = `"${tagOf(state)}"`;
  return state;
}

/** A short tag of a text: 128 bits of its SHA-256. */
export function hashTag(text: string | Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(text).digest("base64url").slice(0, 22);
}

function matchesTag(header: string | null, etag: string): boolean {
  if (header === null) return false;
  return header.split(",").some((part) => {
    const candidate = part.trim().replace(/^W\//, "");
    return candidate === "*" || candidate === etag;
  });
}
