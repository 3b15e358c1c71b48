import type { Config } from "../config.ts";
import { createProxyFinder } from "../lib/outgoing/find-proxy.ts";
import type { Environment } from "./command.ts";

const proxyVariables = ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] as const;

/** Removes the proxy variables from this process, because Bun's own HTTP clients would use them. */
export function removeRuntimeProxies(environment: Environment): void {
  for (const name of proxyVariables) for (const spelling of [name, name.toLowerCase()]) delete environment[spelling];
}

/**
 * Makes Bun's S3 client, which uploads backups, use the configured proxies. The client reads the proxy variables from the process
 * environment for each request, and interprets them differently from Parley.
 */
export function setRuntimeProxies(environment: Environment, config: Config): void {
  removeRuntimeProxies(environment);
  const { BACKUP_S3_BUCKET, BACKUP_S3_ENDPOINT, BACKUP_S3_REGION } = config;
  if (BACKUP_S3_BUCKET === undefined) return;
  const url = new URL(BACKUP_S3_ENDPOINT ?? `https://s3.${BACKUP_S3_REGION}.amazonaws.com`);
  if (createProxyFinder(config)(url) === null) return;
  const name = url.protocol === "https:" ? "HTTPS_PROXY" : "HTTP_PROXY";
  const proxyUrl = config[name];
  if (proxyUrl !== undefined) environment[name] = proxyUrl;
}
