/**
 * The address of a request. The runtime builds `request.url` out of the `Host` header, whatever that says; with one that
 * is missing or no host, the path alone counts.
 */
export function readUrl({ url }: { url: string }): URL {
  if (URL.canParse(url)) return new URL(url);
  const path = /^(?:[a-z]+:\/\/[^/]*)?(\/.*)$/is.exec(url)?.[1] ?? "/";
  return URL.canParse(path, "http://localhost") ? new URL(path, "http://localhost") : new URL("http://localhost/");
}

/** The query of a request, as it was sent. */
export function readSearch({ url }: { url: string }): string {
  const at = url.indexOf("?");
  return at < 0 ? "" : url.slice(at + 1);
}
