import type { Config } from "../config.ts";
import { hostOf } from "./address.ts";

/** Wildcard addresses: a server can listen on them, but clients can't connect to them. */
const wildcardAddresses = new Set(["0.0.0.0", "::", "*"]);

/** The URL under which this machine reaches its own server. PORT must not be 0. */
export function createOwnUrl(config: Pick<Config, "HOST" | "PORT" | "TLS_CERT_FILE">, path: string): URL {
  const configuredHost = hostOf(config);
  const host = wildcardAddresses.has(configuredHost) ? "127.0.0.1" : configuredHost;
  const url = new URL(`${config.TLS_CERT_FILE ? "https" : "http"}://127.0.0.1:${config.PORT}${path}`);
  url.hostname = host.includes(":") ? `[${host}]` : host;
  return url;
}
