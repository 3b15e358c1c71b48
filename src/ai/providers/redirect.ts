import type { IncomingResponse } from "../../lib/http-client/client.ts";
import { UnexpectedAnswerError } from "./unexpected-answer.ts";

/** 304 (Not Modified) never answers a POST. */
export const isRedirect = (status: number): boolean => status >= 300 && status <= 399 && status !== 304;

/**
 * Creates the error for a redirect. Redirects are not followed: the key and the conversation are only for the configured
 * server.
 */
export function refuseRedirect(url: URL, { status, headers, body }: IncomingResponse): UnexpectedAnswerError {
  body.abort();
  const target = describeTarget(url, headers.get("location"));
  return new UnexpectedAnswerError(
    `HTTP ${status}: redirects are not followed; set the base URL to the address that answers. This one points to ${target}`,
  );
}

/** Without userinfo, query and fragment, which may hold secrets. */
function describeTarget(url: URL, location: string | null): string {
  if (location === null || !URL.canParse(location, url.href)) return "no address that can be read";
  const { protocol, host, pathname } = new URL(location, url);
  // In other schemes (`data:`, `mailto:`) everything is in the path.
  if (protocol !== "https:" && protocol !== "http:") return `an address with ${protocol}`;
  return `${protocol}//${host}${pathname}`;
}
