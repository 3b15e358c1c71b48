import type { Config } from "../../config.ts";
import type { PublicServer } from "../../protocol/asyncapi.ts";
import { readUrl } from "../request-url.ts";

/**
 * Where clients reach this server: `PUBLIC_URL`, or without it the host of the request. A forged `Host` only changes the
 * client's own response.
 */
export function findPublicServer(request: Request, settings: Partial<Pick<Config, "PUBLIC_URL">>): PublicServer {
  const { host, pathname, protocol } = new URL(settings.PUBLIC_URL ?? readUrl(request).origin);
  return { host, pathname: pathname.replace(/\/+$/, ""), isSecure: protocol === "https:" };
}
