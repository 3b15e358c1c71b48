/**
 * Parses a request's URL. Bun creates `request.url` from the `Host` header without validating it. If the host is missing or
 * invalid, it is replaced by `localhost`.
 */
export function parseRequestUrl({ url }: { url: string }): URL {
  if (URL.canParse(url)) return new URL(url);
  const path = /^(?:[a-z]+:\/\/[^/]*)?(\/.*)$/is.exec(url)?.[1] ?? "/";
  return URL.canParse(path, "http://localhost") ? new URL(path, "http://localhost") : new URL("http://localhost/");
}

/** Returns a request's query as sent, without the `?`. */
export function getRawQuery({ url }: { url: string }): string {
  const index = url.indexOf("?");
  return index < 0 ? "" : url.slice(index + 1);
}
