import type { Config } from "../../config.ts";
import type { PublicServer } from "../../protocol/asyncapi.ts";
import { readUrl } from "../request-url.ts";

type Settings = Partial<Pick<Config, "PUBLIC_URL" | "TLS_CERT_FILE">>;

/**
 * How the client reached this server: the host of its request, and TLS if it is served here, or if a proxy in front of it
 * serves it (`PUBLIC_URL`, `X-Forwarded-Proto`). A forged header only changes the client's own response.
 */
export function findPublicServer(request: Request, settings: Settings): PublicServer {
  const publicUrl = settings.PUBLIC_URL === undefined ? null : new URL(settings.PUBLIC_URL);
  const { host } = readUrl(request);
  const isSecure =
    settings.TLS_CERT_FILE !== undefined ||
    (publicUrl?.protocol === "https:" && publicUrl.host === host) ||
    request.headers.get("x-forwarded-proto")?.split(",")[0]?.trim().toLowerCase() === "https";
  return { host, isSecure };
}
