import { Problem } from "../lib/problem.ts";

/**
 * Responds with the body and its `ETag`, or with 304 if the client already has it (`If-None-Match` in RFC 9110).
 * @param tag identifies the body: a hash, or a version with a time.
 */
export function respondWithTag(
  request: Request,
  tag: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string>,
): Response {
  const etag = `"${tag}"`;
  const allHeaders = { "cache-control": "private, no-cache", ...headers, etag };
  if (matchesTag(request.headers.get("if-none-match"), etag)) {
    // The response has no body that these headers could describe.
    const { "content-type": _, "content-encoding": __, ...remainingHeaders } = allHeaders as Record<string, string>;
    return new Response(null, { status: 304, headers: remainingHeaders });
  }
  return new Response(body, { headers: allHeaders });
}

/**
 * Checks `If-Match`. Must be called while the resource is locked, with its current state as GET would return it.
 * @throws Problem `precondition_failed` if the state has changed.
 */
export type Precondition = (currentState: object) => void;

/** Returns a request's precondition, or undefined if there is no `If-Match`. */
export function parsePrecondition(request: Request): Precondition | undefined {
  const header = request.headers.get("if-match");
  if (header === null) return undefined;
  const tags = [...header.matchAll(entityTag)].map(([tag]) => tag);
  return (currentState) => {
    // RFC 9110 requires strong comparison, so a weak tag (`W/"…"`) never matches.
    if (header.trim() === "*" || tags.includes(`"${createStateTag(currentState)}"`)) return;
    throw new Problem(
      "precondition_failed",
      "The resource has changed since the version in If-Match. Nothing was changed. Read it again and send the new ETag.",
    );
  };
}

/** Matches one tag in a list. A tag may contain commas. */
const entityTag = /(?:W\/)?"[\x21\x23-\x7e\x80-\xff]*"/gi;

/** Returns the tag of a state that is sent as JSON. */
const createStateTag = (state: object): string => computeTag(JSON.stringify(state));

/** Sets the `ETag` of a changed resource, so that clients needn't read the resource again before the next change. */
export function setETag<T extends object>(headers: Record<string, string | number | undefined>, state: T): T {
  headers.etag = `"${createStateTag(state)}"`;
  return state;
}

/** Returns a short hash of text: 128 bits of its SHA-256. */
export function computeTag(text: string | Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(text).digest("base64url").slice(0, 22);
}

function matchesTag(header: string | null, etag: string): boolean {
  if (header === null) return false;
  return header.split(",").some((part) => {
    const candidate = part.trim().replace(/^W\//, "");
    return candidate === "*" || candidate === etag;
  });
}
