/**
 * The URL of a request. Bun builds `request.url` from the `Host` header without checking it; if the host is missing or
 * invalid, only the path is used.
 */
export function readUrl({ url }: { url: string }): URL {
  if (URL.canParse(url)) return new URL(url);
  const path = /^(?:[a-z]+:\/\/[^/]*)?(\/.*)$/is.exec(url)?.[1] ?? "/";
  return URL.canParse(path, "http://localhost") ? new URL(path, "http://localhost") : new URL("http://localhost/");
}

/** The query of a request, as sent. */
export function readSearch({ url }: { url: string }): string {
  const at = url.indexOf("?");
  return at < 0 ? "" : url.slice(at + 1);
}
