import { Problem } from "../lib/problem.ts";

/**
 * Answers a read with an `ETag`, or 304 when the caller already has this state (RFC 9110, If-None-Match: weak
 * comparison). `tag` names the state: a hash or a version with time.
 */
export function respondWithTag(
  request: Request,
  tag: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string>,
): Response {
  const etag = `"${tag}"`;
  const all = { "cache-control": "private, no-cache", ...headers, etag };
  if (matchesTag(request.headers.get("if-none-match"), etag)) return new Response(null, { status: 304, headers: all });
  return new Response(body, { headers: all });
}

/**
 * What `If-Match` asks for: called by a change with the current state, as a read would show it, under the lock of the change.
 * @throws Problem `precondition_failed` if it names other states.
 */
export type Precondition = (current: object) => void;

/** The precondition of a request; undefined without `If-Match`, so that a change needs no lock for it. */
export function readPrecondition(request: Request): Precondition | undefined {
  const header = request.headers.get("if-match");
  if (header === null) return undefined;
  const tags = [...header.matchAll(entityTag)].map(([tag]) => tag);
  return (current) => {
    // RFC 9110, strong comparison: a weak tag (`W/"…"`) matches nothing.
    if (header.trim() === "*" || tags.includes(`"${tagOf(current)}"`)) return;
    throw new Problem(
      "precondition_failed",
      "It has changed since the state that If-Match names, and nothing was done. Read it again, and send its ETag.",
    );
  };
}

/** One of a list; what is none of this form matches nothing. A tag may contain commas. */
const entityTag = /(?:W\/)?"[\x21\x23-\x7e\x80-\xff]*"/gi;

/** The tag of a state whose JSON is the body. */
const tagOf = (state: object): string => hashTag(JSON.stringify(state));

/** Gives the response to a change the tag of its body, so that the next change needs no read before it. */
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
