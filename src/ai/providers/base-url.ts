/** An address as the SDKs want it. */
type BaseUrl = { baseURL: string; defaultQuery: Record<string, string> };

/** The parameters of a base URL (`?api-version=…`) on their own: an SDK would write its path behind them. */
export function splitBaseUrl(address: string): BaseUrl {
  const url = new URL(address);
  const defaultQuery = Object.fromEntries(url.searchParams);
  url.search = "";
  url.hash = "";
  return { baseURL: url.href, defaultQuery };
}
