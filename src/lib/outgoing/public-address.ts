import { BlockList, isIP } from "node:net";
import { addNetwork } from "../network.ts";

/** IPv4 networks outside the public internet (IANA's registry of special-purpose addresses, RFC 6890). */
const SPECIAL_IPV4 = [
  "0.0.0.0/8", // this host
  "10.0.0.0/8", // private
  "100.64.0.0/10", // shared by carriers, and the metadata of Alibaba Cloud
  "127.0.0.0/8", // loopback
  "168.63.129.16", // Azure's own services, as seen from its machines
  "169.254.0.0/16", // link-local, and the metadata of most clouds
  "172.16.0.0/12", // private
  "192.0.0.0/24", // protocol assignments, and the metadata of Oracle Cloud
  "192.0.2.0/24", // documentation
  "192.88.99.0/24", // 6to4 relays
  "192.168.0.0/16", // private
  "198.18.0.0/15", // benchmarks
  "198.51.100.0/24", // documentation
  "203.0.113.0/24", // documentation
  "224.0.0.0/4", // multicast
  "240.0.0.0/4", // reserved, and broadcast
];

/** The only public IPv6 network. Addresses outside it (`::1`, `fc00::/7`, `fe80::/10` …) are not public. */
const GLOBAL_IPV6 = ["2000::/3"];

/** IPv6 networks within `GLOBAL_IPV6` that are not public or that tunnel to IPv4 addresses. */
const SPECIAL_IPV6 = [
  "2001::/23", // protocol assignments: Teredo, benchmarks, ORCHID
  "2001:db8::/32", // documentation
  "2002::/16", // 6to4
  "3fff::/20", // documentation
];

const specialIpv4 = createBlockList(SPECIAL_IPV4);
const globalIpv6 = createBlockList(GLOBAL_IPV6);
const specialIpv6 = createBlockList(SPECIAL_IPV6);

/**
 * Matches an IPv4 address embedded in an IPv6 address: mapped (RFC 4291) or NAT64 (RFC 6052). Addresses that begin with `0.0`
 * might not match, but they aren't public anyway.
 */
const embeddedIpv4 = /^(?:::ffff|64:ff9b:):([0-9a-f]{1,4}):([0-9a-f]{1,4})$/;

/**
 * Whether an IP address is on the public internet. Returns false for this machine, its network, cloud metadata services,
 * unassigned addresses, addresses with a zone, and other strings.
 */
export function isPublicAddress(address: string): boolean {
  const version = isIP(address);
  if (version === 4) return !specialIpv4.check(address, "ipv4");
  if (version !== 6 || address.includes("%")) return false;
  const canonical = new URL(`http://[${address}]/`).hostname.slice(1, -1);
  const embedded = findEmbeddedIpv4(canonical);
  if (embedded !== null) return !specialIpv4.check(embedded, "ipv4");
  return globalIpv6.check(canonical, "ipv6") && !specialIpv6.check(canonical, "ipv6");
}

function findEmbeddedIpv4(canonical: string): string | null {
  const [, high, low] = embeddedIpv4.exec(canonical) ?? [];
  if (high === undefined || low === undefined) return null;
  const [first, second] = [Number.parseInt(high, 16), Number.parseInt(low, 16)];
  return [first >> 8, first & 255, second >> 8, second & 255].join(".");
}

function createBlockList(networks: string[]): BlockList {
  const list = new BlockList();
  for (const network of networks) addNetwork(list, network);
  return list;
}
