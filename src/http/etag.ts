/**
 * Answers a read with an `ETag`, or 304 when the caller already has this state (RFC 9110, If-None-Match: weak
 * comparison). `tag` names the state: a hash or a version with time.
 */
export function respondWithTag(request: Request, tag: string, body: string, headers: Record<string, string>): Response {
  const etag = `"${tag}"`;
  const all = { "cache-control": "private, no-cache", ...headers, etag };
  if (matchesTag(request.headers.get("if-none-match"), etag)) return new Response(null, { status: 304, headers: all });
  return new Response(body, { headers: all });
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
