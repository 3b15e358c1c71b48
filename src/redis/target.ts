import { isIP } from "node:net";
import type { Redis, RedisOptions } from "ioredis";
import { type Address, splitAddress } from "./cluster/slots.ts";

const DEFAULT_PORT = 6379;
/** The first Redis version with sharded channels. Every Valkey version has sharded channels and a higher number. */
const SHARDED_VERSION_MIN = 7;

export type ServerKind = { isCluster: boolean; hasShardedChannels: boolean };

/** Parses `REDIS_URL`. @throws an Error without the URL in its message, because the URL may contain a password. */
function parseRedisUrl(url: string): URL {
  const parsed = URL.parse(url);
  if (!parsed)
    throw new Error(
      "REDIS_URL is not a URL: use redis://user:password@host:port, with special characters percent-encoded (%2F).",
    );
  return parsed;
}

/** Decodes percent-encoding. A string with an unescaped percent sign, such as a password, is returned unchanged. */
function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Returns the host and port of `REDIS_URL`. */
export function parseSeedAddress(url: string): Address {
  const { hostname, port } = parseRedisUrl(url);
  return `${hostname.replace(/^\[|\]$/g, "") || "127.0.0.1"}:${port || DEFAULT_PORT}`;
}

/**
 * Creates the options for a cluster node, with the user, password and TLS settings from `REDIS_URL`. The URL's database number is
 * ignored, because a cluster has only database 0.
 */
export function createNodeOptions(url: string, address: Address): RedisOptions {
  return { ...createSharedOptions(url, address), ...splitAddress(address) };
}

/** Creates the options that the connections to all nodes share. @param address a node's address, to verify its certificate. */
export function createSharedOptions(url: string, address = parseSeedAddress(url)): RedisOptions {
  const { protocol, username, password, hostname } = parseRedisUrl(url);
  const options: RedisOptions = {};
  if (username !== "") options.username = decode(username);
  if (password !== "") options.password = decode(password);
  if (protocol !== "rediss:") return options;
  // If a node is known only by its IP address, its certificate contains the host name from REDIS_URL.
  const host = hostname.replace(/^\[|\]$/g, "");
  options.tls = isIP(splitAddress(address).host) !== 0 && isIP(host) === 0 ? { servername: host } : {};
  return options;
}

/** Detects whether a server is a cluster. Uses HELLO, which needs no permission. @throws if the server doesn't respond in time. */
export async function detectServerKind(connection: Redis): Promise<ServerKind> {
  try {
    const reply = (await connection.call("HELLO")) as unknown[];
    const getField = (name: string) => String(reply[reply.indexOf(name) + 1]);
    const isCluster = getField("mode") === "cluster";
    return {
      isCluster,
      hasShardedChannels: isCluster && Number.parseInt(getField("version"), 10) >= SHARDED_VERSION_MIN,
    };
  } catch (error) {
    // A server that doesn't know HELLO has no sharded channels either.
    if (error instanceof Error && error.name === "ReplyError") return { isCluster: false, hasShardedChannels: false };
    throw error;
  }
}
