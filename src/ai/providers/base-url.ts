/** A base URL in the format of the SDKs' options. */
type BaseUrl = { baseURL: string; defaultQuery: Record<string, string> };

/** Separates the query (`?api-version=…`) from a base URL, because the SDKs would append the path to it. */
export function splitBaseUrl(address: string): BaseUrl {
  const url = new URL(address);
  const defaultQuery = Object.fromEntries(url.searchParams);
  url.search = "";
  url.hash = "";
  return { baseURL: url.href, defaultQuery };
}
