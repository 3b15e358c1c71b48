import { isIP } from "node:net";
import type { Redis, RedisOptions } from "ioredis";
import { type Address, splitAddress } from "./cluster/slots.ts";

const DEFAULT_PORT = 6379;
/** The first version with sharded channels. Valkey's version numbers began above it. */
const SHARDED_VERSION_MIN = 7;

export type ServerKind = { isCluster: boolean; hasShardedChannels: boolean };

/** Parses REDIS_URL. @throws Error whose message doesn't contain the URL, because it may contain a password. */
function parse(url: string): URL {
  const parsed = URL.parse(url);
  if (!parsed)
    throw new Error(
      "REDIS_URL is not a URL: use redis://user:password@host:port, with special characters percent-encoded (%2F).",
    );
  return parsed;
}

/** Decodes percent-encoding. Text with an unescaped percent sign, as in a password, is returned unchanged. */
function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Returns the host and port of `REDIS_URL`. */
export function findSeed(url: string): Address {
  const { hostname, port } = parse(url);
  return `${hostname.replace(/^\[|\]$/g, "") || "127.0.0.1"}:${port || DEFAULT_PORT}`;
}

/**
 * Creates the options for a node of a cluster, with the user, password and TLS of `REDIS_URL`. A cluster has only database 0, so
 * the database number in the URL is ignored.
 */
export function createNodeOptions(url: string, address: Address): RedisOptions {
  return { ...createSharedOptions(url, address), ...splitAddress(address) };
}

/** Creates the options shared by connections to all nodes. @param address a node's address. Its certificate may not contain its IP address. */
export function createSharedOptions(url: string, address = findSeed(url)): RedisOptions {
  const { protocol, username, password, hostname } = parse(url);
  const options: RedisOptions = {};
  if (username !== "") options.username = decode(username);
  if (password !== "") options.password = decode(password);
  if (protocol !== "rediss:") return options;
  // If a node is known only by its IP address, its certificate is for the host name of REDIS_URL.
  const host = hostname.replace(/^\[|\]$/g, "");
  options.tls = isIP(splitAddress(address).host) !== 0 && isIP(host) === 0 ? { servername: host } : {};
  return options;
}

/** Finds out whether a server is a cluster. Uses HELLO, which needs no permission. @throws if it doesn't respond in time. */
export async function findServerKind(connection: Redis): Promise<ServerKind> {
  try {
    const reply = (await connection.call("HELLO")) as unknown[];
    const find = (name: string) => String(reply[reply.indexOf(name) + 1]);
    const isCluster = find("mode") === "cluster";
    return { isCluster, hasShardedChannels: isCluster && Number.parseInt(find("version"), 10) >= SHARDED_VERSION_MIN };
  } catch (error) {
    // A server that doesn't know HELLO has no sharded channels either.
    if (error instanceof Error && error.name === "ReplyError") return { isCluster: false, hasShardedChannels: false };
    throw error;
  }
}
