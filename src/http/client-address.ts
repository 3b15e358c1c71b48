import { BlockList, isIP } from "node:net";
import { addNetwork } from "../lib/network.ts";

/** Entries of `X-Forwarded-For` that are evaluated, from the right. */
const HOPS_MAX = 20;

type AddressSource = { requestIP(request: Request): { address: string } | null };

/** The client's address; null if the connection has none (a Unix socket). */
export type ReadClientAddress = (request: Request, server: AddressSource | null) => string | null;

/**
 * Reads the peer's address or, behind trusted proxies, the address they report: the first entry of `X-Forwarded-For`, from
 * the right, that is not a trusted proxy. Entries further left can be forged by the client.
 * @param trustedProxies addresses and networks (`10.0.0.0/8`, `fd00::/8`). @throws Error naming an invalid entry.
 */
export function createReadClientAddress(trustedProxies: readonly string[]): ReadClientAddress {
  const trusted = new BlockList();
  for (const network of trustedProxies) addNetwork(trusted, network);

  function find(request: Request, server: AddressSource | null): string | null {
    const peer = parseAddress(server?.requestIP(request)?.address ?? "");
    if (peer === null || trustedProxies.length === 0 || !isIn(trusted, peer)) return peer;
    let client = peer;
    const hops = request.headers.get("x-forwarded-for")?.split(",") ?? [];
    for (const hop of hops.reverse().slice(0, HOPS_MAX)) {
      const address = parseAddress(hop);
      if (address === null) break;
      client = address;
      if (!isIn(trusted, address)) break;
    }
    return client;
  }

  // Rate limiting and authentication usually read it in the same tick, so the last result is cached.
  let last: { request: Request; address: string | null } | null = null;
  return (request, server) => {
    if (last?.request === request) return last.address;
    const address = find(request, server);
    last = { request, address };
    return address;
  };
}

function isIn(list: BlockList, address: string): boolean {
  return list.check(address, isIP(address) === 6 ? "ipv6" : "ipv4");
}

const plainAddress = /^\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}$/;

/** Parses an address; also accepts `1.2.3.4:5678`, `[::1]:80`, zones, and IPv4-mapped IPv6 addresses. */
function parseAddress(text: string): string | null {
  if (plainAddress.test(text)) return isIP(text) === 0 ? null : text;
  const bare = text
    .trim()
    .replace(/^\[([^\]]*)\](?::\d+)?$/, "$1")
    .replace(/^(\d+\.\d+\.\d+\.\d+):\d+$/, "$1")
    .replace(/%.*$/, "")
    .replace(/^::ffff:(?=\d+\.)/i, "");
  return isIP(bare) === 0 ? null : bare.toLowerCase();
}
