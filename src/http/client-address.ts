import { BlockList, isIP } from "node:net";
import { addNetwork } from "../lib/network.ts";

/** Maximum number of entries of `X-Forwarded-For` that are read, from the right. */
const HOPS_MAX = 20;

type AddressSource = { requestIP(request: Request): { address: string } | null };

/** Returns the client's address, or null if the connection is a Unix socket. */
export type GetClientAddress = (request: Request, server: AddressSource | null) => string | null;

/**
 * Returns a function that determines a client's address. Behind trusted proxies, that is the last entry of `X-Forwarded-For`
 * that isn't a trusted proxy. The client could have forged any earlier entries.
 * @param trustedProxies addresses and networks (`10.0.0.0/8`, `fd00::/8`). @throws Error if an entry is invalid.
 */
export function createClientAddressLookup(trustedProxies: readonly string[]): GetClientAddress {
  const trustedNetworks = new BlockList();
  for (const network of trustedProxies) addNetwork(trustedNetworks, network);

  function findClientAddress(request: Request, server: AddressSource | null): string | null {
    const peer = parseAddress(server?.requestIP(request)?.address ?? "");
    if (peer === null || trustedProxies.length === 0 || !isInList(trustedNetworks, peer)) return peer;
    let client = peer;
    const hops = request.headers.get("x-forwarded-for")?.split(",") ?? [];
    for (const hop of hops.reverse().slice(0, HOPS_MAX)) {
      const address = parseAddress(hop);
      if (address === null) break;
      client = address;
      if (!isInList(trustedNetworks, address)) break;
    }
    return client;
  }

  // The last address is cached, because rate limiting and authentication usually need it in the same tick.
  let lastResult: { request: Request; address: string | null } | null = null;
  return (request, server) => {
    if (lastResult?.request === request) return lastResult.address;
    const address = findClientAddress(request, server);
    lastResult = { request, address };
    return address;
  };
}

function isInList(list: BlockList, address: string): boolean {
  return list.check(address, isIP(address) === 6 ? "ipv6" : "ipv4");
}

const ipv4Pattern = /^\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}$/;

/** Parses an IP address. Removes a port or zone, and converts an IPv4-mapped IPv6 address to IPv4. */
function parseAddress(text: string): string | null {
  if (ipv4Pattern.test(text)) return isIP(text) === 0 ? null : text;
  const address = text
    .trim()
    .replace(/^\[([^\]]*)\](?::\d+)?$/, "$1")
    .replace(/^(\d+\.\d+\.\d+\.\d+):\d+$/, "$1")
    .replace(/%.*$/, "")
    .replace(/^::ffff:(?=\d+\.)/i, "");
  return isIP(address) === 0 ? null : address.toLowerCase();
}
