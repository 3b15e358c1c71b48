/** A base URL in the SDKs' form. */
type BaseUrl = { baseURL: string; defaultQuery: Record<string, string> };

/** Separates the query of a base URL (`?api-version=…`), because an SDK would append its path to it. */
export function splitBaseUrl(address: string): BaseUrl {
  const url = new URL(address);
  const defaultQuery = Object.fromEntries(url.searchParams);
  url.search = "";
  url.hash = "";
  return { baseURL: url.href, defaultQuery };
}
