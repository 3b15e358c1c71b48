import type { Config } from "../../config.ts";
import type { PublicServer } from "../../protocol/asyncapi.ts";
import { parseRequestUrl } from "../request-url.ts";

/**
 * Returns the server's public address from `PUBLIC_URL`, or else from the request's host. A forged `Host` header only affects
 * the client's own response.
 */
export function findPublicServer(request: Request, settings: Partial<Pick<Config, "PUBLIC_URL">>): PublicServer {
  const { host, pathname, protocol } = new URL(settings.PUBLIC_URL ?? parseRequestUrl(request).origin);
  return { host, pathname: pathname.replace(/\/+$/, ""), isSecure: protocol === "https:" };
}
