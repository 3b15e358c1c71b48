/**
 * Returns the key under which a client's IP address is counted. For IPv6 it is the /64 network, because a client usually has
 * a whole /64 network (RFC 6177, RFC 7421).
 * @param address an address from `getClientAddress`.
 */
export function createAddressKey(address: string): string {
  if (!address.includes(":")) return address;
  const groups = expandIpv6(address);
  const mappedAddress = findMappedAddress(groups);
  return mappedAddress ?? `${groups.slice(0, 4).join(":")}::/64`;
}

/** Expands an IPv6 address in any notation to its eight groups. */
function expandIpv6(address: string): string[] {
  const [left = "", right] = address.split("::");
  const head = splitGroups(left);
  const tail = right === undefined ? [] : splitGroups(right);
  const zeros = Array.from({ length: Math.max(0, 8 - head.length - tail.length) }, () => "0");
  return [...head, ...(right === undefined ? [] : zeros), ...tail];
}

function splitGroups(text: string): string[] {
  if (text === "") return [];
  return text.split(":").flatMap((group) => {
    if (!group.includes(".")) return [Number.parseInt(group, 16).toString(16)];
    // The last 32 bits may be in IPv4 notation.
    const [a = 0, b = 0, c = 0, d = 0] = group.split(".").map(Number);
    return [(a * 256 + b).toString(16), (c * 256 + d).toString(16)];
  });
}

/** Returns the IPv4 address in an IPv4-mapped IPv6 address (`::ffff:0:0/96`), or null for other addresses. */
function findMappedAddress(groups: string[]): string | null {
  if (groups.slice(0, 5).some((group) => group !== "0") || groups[5] !== "ffff") return null;
  const [high = 0, low = 0] = groups.slice(6).map((group) => Number.parseInt(group, 16));
  return [high >> 8, high & 255, low >> 8, low & 255].join(".");
}
