/** The address of a node, as `host:port`. */
export type Address = string;

const SLOTS = 16_384;
const CRC_POLYNOMIAL = 0x1021;

/** CRC16 of each byte (XMODEM): Redis Cluster assigns keys and channels to slots by it. */
const crcOfByte = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? (crc << 1) ^ CRC_POLYNOMIAL : crc << 1;
  return crc;
});

/** The slot of a channel without braces: only the part in braces would count. */
export function slotOf(channel: string): number {
  let crc = 0;
  for (const byte of Buffer.from(channel)) crc = ((crc << 8) ^ (crcOfByte[(crc >> 8) ^ byte] ?? 0)) & 0xffff;
  return crc % SLOTS;
}

/** The master of each slot. */
export class SlotMap {
  readonly #owners: (Address | undefined)[] = new Array(SLOTS);

  /**
   * @param reply of `CLUSTER SLOTS`
   * @param replyHost the host that sent the reply; a node that doesn't know its own name leaves it out.
   * @throws if the reply has another form.
   */
  constructor(reply: unknown, replyHost: string) {
    for (const [from, to, [host, port]] of reply as [number, number, [string | null, number]][]) {
      const address = `${host && host !== "?" ? host : replyHost}:${port}`;
      this.#owners.fill(address, from, to + 1);
    }
  }

  findOwner(channel: string): Address | undefined {
    return this.#owners[slotOf(channel)];
  }

  get masters(): Set<Address> {
    return new Set(this.#owners.filter((owner) => owner !== undefined));
  }
}

/** An IPv6 address contains colons itself. */
export function splitAddress(address: Address): { host: string; port: number } {
  const colon = address.lastIndexOf(":");
  return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
}
