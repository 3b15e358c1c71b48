import { BlockList } from "node:net";
import { addNetwork } from "../lib/network.ts";
import type { Settings } from "./settings.ts";

// What is refused or warned of outside development. Staging is checked like production: it rehearses it, and can often
// be reached from outside.

/** Secrets that people write down in example files, to be replaced. */
const PLACEHOLDER =
  /(?<![a-z])(?:change|replace)[-_ ]?(?:me|this)(?![a-z])|(?<![a-z])your[-_ ].*secret|^changeit$|^<.*>$/i;
const secretNames = ["JWT_SECRET", "ADMIN_PASSWORD", "METRICS_TOKEN"] as const;

/** Random secrets of 32 bytes have more than 12 in every usual form: hex, base64, UUIDs. */
const DISTINCT_CHARS_MIN = 10;

/** Settings that are surely wrong outside development; one sentence each. */
export function findUnsafeSettings(config: Settings): string[] {
  if (config.APP_ENV === "development") return [];
  return secretNames
    .filter((name) => PLACEHOLDER.test(config[name] ?? ""))
    .map(
      (name) =>
        `${name}: the value is a placeholder of an example, which everybody knows; set a random one (openssl rand -base64 32).`,
    );
}

/** Settings that are seldom meant outside development; one sentence each, for the log and `config check`. */
export function listEnvironmentWarnings(config: Settings): string[] {
  const { APP_ENV, JWT_SECRET, PUBLIC_URL, CORS_ORIGINS, TRUSTED_PROXIES } = config;
  if (APP_ENV === "development") return [];
  const warnings: string[] = [];
  if (!config.METRICS_TOKEN)
    warnings.push(
      `METRICS_TOKEN: not set, so everybody who reaches this port can read /metrics; set it in ${APP_ENV}, or close /metrics at the proxy.`,
    );
  if (JWT_SECRET && new Set(JWT_SECRET).size < DISTINCT_CHARS_MIN)
    warnings.push("JWT_SECRET: the value can be guessed; set it to 32 random bytes (openssl rand -base64 32).");
  if (PUBLIC_URL && isPlainHttp(PUBLIC_URL))
    warnings.push(`PUBLIC_URL: passwords and tokens can be read on the way over http; use https in ${APP_ENV}.`);
  const { OIDC_JWKS_URL, OIDC_ISSUER = "" } = config;
  const keysUrl = OIDC_JWKS_URL ?? OIDC_ISSUER;
  if (isPlainHttp(keysUrl))
    warnings.push(
      `${OIDC_JWKS_URL ? "OIDC_JWKS_URL" : "OIDC_ISSUER"}: keys that come over http can be replaced on the way, and then anybody can log in; use https in ${APP_ENV}.`,
    );
  for (const origin of CORS_ORIGINS.filter(isPlainHttp))
    warnings.push(`CORS_ORIGINS: pages of ${origin} can be replaced on the way over http; use https in ${APP_ENV}.`);
  for (const origin of CORS_ORIGINS.filter(isLoopback))
    warnings.push(`CORS_ORIGINS: ${origin} is any program on the visitor's own machine; remove it in ${APP_ENV}.`);
  for (const network of TRUSTED_PROXIES.filter(isEverybody))
    warnings.push(
      `TRUSTED_PROXIES: with ${network} every client can choose its address, and so avoid rate limits; name only your proxies.`,
    );
  return warnings;
}

const isLoopback = (url: string): boolean => /^https?:\/\/(localhost|127\.0\.0\.1|\[::1\])([:/]|$)/i.test(url);

const isPlainHttp = (url: string): boolean => /^http:/i.test(url) && !isLoopback(url);

/** Addresses from both ends of the public range: a network with both is everybody's. */
function isEverybody(network: string): boolean {
  const list = new BlockList();
  addNetwork(list, network);
  return (
    ["1.1.1.1", "198.51.100.1"].every((address) => list.check(address)) ||
    ["2001:db8::1", "2a00::1"].every((address) => list.check(address, "ipv6"))
  );
}
