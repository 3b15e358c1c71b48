import type { IncomingBody } from "../http-client/incoming-body.ts";

/**
 * The first bytes of a body, up to `bytesMax`; the connection is closed if there are more. A body that breaks off, or whose
 * time is over, gives what has come: the status said already what the server did.
 */
export function readUpTo(body: IncomingBody, bytesMax: number): Promise<Uint8Array> {
  return new Promise((resolve) => {
    const packets: Uint8Array[] = [];
    let bytes = 0;
    const end = () => resolve(Buffer.concat(packets));
    body.listen({
      onBytes(packet) {
        // A view that is good until the next packet.
        const kept = packet.slice(0, bytesMax - bytes);
        packets.push(kept);
        bytes += kept.byteLength;
        if (kept.byteLength === packet.byteLength) return;
        body.abort();
        end();
      },
      onEnd: end,
    });
  });
}
