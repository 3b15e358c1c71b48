import { BlockList } from "node:net";
import { addNetwork } from "../lib/network.ts";
import type { Settings } from "./settings.ts";

// Staging is checked like production, because it should resemble production and is often reachable from the internet.

/** Matches placeholders for secrets in example files. */
const PLACEHOLDER =
  /(?<![a-z])(?:change|replace)[-_ ]?(?:me|this)(?![a-z])|(?<![a-z])your[-_ ].*secret|^changeit$|^<.*>$/i;
const secretNames = ["JWT_SECRET", "ADMIN_PASSWORD", "METRICS_TOKEN"] as const;

/** A random 32-byte secret has more than 12 distinct characters in every common encoding: hex, base64 or UUIDs. */
const DISTINCT_CHARS_MIN = 10;

/** Finds settings that are unsafe outside development. Returns an error message for each. */
export function findUnsafeSettings(config: Settings): string[] {
  if (config.APP_ENV === "development") return [];
  return secretNames
    .filter((name) => PLACEHOLDER.test(config[name] ?? ""))
    .map((name) => `${name}: the value is a publicly known placeholder; set a random one (openssl rand -base64 32).`);
}

/** Finds settings that are probably mistakes outside development. Returns a warning for each. */
export function listEnvironmentWarnings(config: Settings): string[] {
  const { APP_ENV, JWT_SECRET, PUBLIC_URL, CORS_ORIGINS, TRUSTED_PROXIES } = config;
  if (APP_ENV === "development") return [];
  const warnings: string[] = [];
  if (!config.METRICS_TOKEN)
    warnings.push(
      `METRICS_TOKEN: not set, so anyone who can reach this port can read /metrics; set it in ${APP_ENV}, or block /metrics at the proxy.`,
    );
  if (JWT_SECRET && new Set(JWT_SECRET).size < DISTINCT_CHARS_MIN)
    warnings.push("JWT_SECRET: the value can be guessed; set it to 32 random bytes (openssl rand -base64 32).");
  if (PUBLIC_URL && isPlainHttp(PUBLIC_URL))
    warnings.push(`PUBLIC_URL: passwords and tokens can be intercepted over http; use https in ${APP_ENV}.`);
  const { OIDC_JWKS_URL, OIDC_ISSUER = "" } = config;
  const keysUrl = OIDC_JWKS_URL ?? OIDC_ISSUER;
  if (isPlainHttp(keysUrl))
    warnings.push(
      `${OIDC_JWKS_URL ? "OIDC_JWKS_URL" : "OIDC_ISSUER"}: keys fetched over http can be tampered with, which lets anyone log in; use https in ${APP_ENV}.`,
    );
  for (const origin of CORS_ORIGINS.filter(isPlainHttp))
    warnings.push(`CORS_ORIGINS: pages from ${origin} can be tampered with over http; use https in ${APP_ENV}.`);
  for (const origin of CORS_ORIGINS.filter(isLoopback))
    warnings.push(`CORS_ORIGINS: ${origin} allows any program on the visitor's own machine; remove it in ${APP_ENV}.`);
  for (const network of TRUSTED_PROXIES.filter(coversInternet))
    warnings.push(
      `TRUSTED_PROXIES: with ${network}, every client can forge its address and evade rate limits; list only your proxies.`,
    );
  return warnings;
}

const isLoopback = (url: string): boolean => /^https?:\/\/(localhost|127\.0\.0\.1|\[::1\])([:/]|$)/i.test(url);

const isPlainHttp = (url: string): boolean => /^http:/i.test(url) && !isLoopback(url);

/** Returns whether a network covers the internet. It does if it contains two IP addresses that have little in common. */
function coversInternet(network: string): boolean {
  const list = new BlockList();
  addNetwork(list, network);
  return (
    ["1.1.1.1", "198.51.100.1"].every((address) => list.check(address)) ||
    ["2001:db8::1", "2a00::1"].every((address) => list.check(address, "ipv6"))
  );
}
