/** A node's address as `host:port`. */
export type Address = string;

const SLOTS = 16_384;
const CRC_POLYNOMIAL = 0x1021;

/** The CRC16 (XMODEM) of each byte. Redis Cluster uses it to assign keys and channels to slots. */
const crcByByte = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? (crc << 1) ^ CRC_POLYNOMIAL : crc << 1;
  return crc;
});

/** Returns a channel's slot. The name must not contain braces, because only the part between them would be hashed. */
export function computeSlot(channel: string): number {
  let crc = 0;
  for (const byte of Buffer.from(channel)) crc = ((crc << 8) ^ (crcByByte[(crc >> 8) ^ byte] ?? 0)) & 0xffff;
  return crc % SLOTS;
}

/** The master of each slot. */
export class SlotMap {
  readonly #owners: (Address | undefined)[] = new Array(SLOTS);

  /**
   * @param reply the reply to `CLUSTER SLOTS`.
   * @param replyHost the host that sent the reply. A node that doesn't know its own host name omits it from the reply.
   * @throws if the reply is malformed.
   */
  constructor(reply: unknown, replyHost: string) {
    for (const [from, to, [host, port]] of reply as [number, number, [string | null, number]][]) {
      const address = `${host && host !== "?" ? host : replyHost}:${port}`;
      this.#owners.fill(address, from, to + 1);
    }
  }

  findOwner(channel: string): Address | undefined {
    return this.#owners[computeSlot(channel)];
  }

  get masters(): Set<Address> {
    return new Set(this.#owners.filter((owner) => owner !== undefined));
  }
}

/** Splits an address at its last colon, because IPv6 addresses contain colons. */
export function splitAddress(address: Address): { host: string; port: number } {
  const colon = address.lastIndexOf(":");
  return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
}
