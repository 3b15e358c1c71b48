import { BlockList, isIP } from "node:net";

/**
 * Adds an IP address or a network (`10.0.0.0/8`, `fd00::/8`) to a list.
 * @throws Error if `network` is neither.
 */
export function addNetwork(list: BlockList, network: string): void {
  const [address = "", bits, extraPart] = network.split("/");
  const version = isIP(address);
  if (version === 0 || extraPart !== undefined || (bits !== undefined && !/^\d{1,3}$/.test(bits)))
    throw new Error(network);
  const family = version === 6 ? "ipv6" : "ipv4";
  if (bits === undefined) list.addAddress(address, family);
  else list.addSubnet(address, Number(bits), family);
}

/** Whether a string is an IP address or a network. */
export function isNetwork(text: string): boolean {
  try {
    addNetwork(new BlockList(), text);
    return true;
  } catch {
    return false;
  }
}
