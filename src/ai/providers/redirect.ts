import type { IncomingResponse } from "../../lib/http-client/client.ts";
import { UnexpectedResponseError } from "./unexpected-response.ts";

/** Whether a status is a redirect. 304 (Not Modified) isn't. */
export const isRedirect = (status: number): boolean => status >= 300 && status <= 399 && status !== 304;

/**
 * Creates the error for a redirect. Redirects aren't followed, because the key and the conversation must not be sent to
 * a different server.
 */
export function createRedirectError(url: URL, { status, headers, body }: IncomingResponse): UnexpectedResponseError {
  body.abort();
  const target = describeTarget(url, headers.get("location"));
  return new UnexpectedResponseError(
    `HTTP ${status}: redirects are not followed. Set the base URL to the final address. This redirect points to ${target}`,
  );
}

/** Formats the redirect's target without userinfo, query and fragment, which may contain secrets. */
function describeTarget(url: URL, location: string | null): string {
  if (location === null || !URL.canParse(location, url.href)) return "an invalid address";
  const { protocol, host, pathname } = new URL(location, url);
  // The path of other schemes, such as `data:`, may contain secrets.
  if (protocol !== "https:" && protocol !== "http:") return `an address with ${protocol}`;
  return `${protocol}//${host}${pathname}`;
}
