import type { Config } from "../config.ts";
import { hostOf } from "./address.ts";

/** Addresses that mean all addresses of this machine, and can't be connected to. */
const everyAddress = new Set(["0.0.0.0", "::", "*"]);

/** The URL under which this machine reaches its own server. PORT must not be 0. */
export function createOwnUrl(config: Pick<Config, "HOST" | "PORT" | "TLS_CERT_FILE">, path: string): URL {
  const named = hostOf(config);
  const host = everyAddress.has(named) ? "127.0.0.1" : named;
  const url = new URL(`${config.TLS_CERT_FILE ? "https" : "http"}://127.0.0.1:${config.PORT}${path}`);
  url.hostname = host.includes(":") ? `[${host}]` : host;
  return url;
}
