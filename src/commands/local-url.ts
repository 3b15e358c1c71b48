import type { Config } from "../config.ts";
import { removeHostBrackets } from "./address.ts";

/** Addresses that a server can listen on, but clients can't connect to. */
const wildcardAddresses = new Set(["0.0.0.0", "::", "*"]);

/** Returns the URL of the server on this machine. PORT must not be 0. */
export function createLocalUrl(config: Pick<Config, "HOST" | "PORT" | "TLS_CERT_FILE">, path: string): URL {
  const configuredHost = removeHostBrackets(config);
  const host = wildcardAddresses.has(configuredHost) ? "127.0.0.1" : configuredHost;
  const url = new URL(`${config.TLS_CERT_FILE ? "https" : "http"}://127.0.0.1:${config.PORT}${path}`);
  url.hostname = host.includes(":") ? `[${host}]` : host;
  return url;
}
