import type { IncomingBody } from "../http-client/incoming-body.ts";

/**
 * Reads up to `bytesMax` bytes of a body, and closes the connection if there are more. If the body is interrupted, resolves with
 * the bytes that have arrived. Never rejects.
 */
export function readUpTo(body: IncomingBody, bytesMax: number): Promise<Uint8Array> {
  return new Promise((resolve) => {
    const packets: Uint8Array[] = [];
    let receivedBytes = 0;
    const finish = () => resolve(Buffer.concat(packets));
    body.listen({
      onBytes(packet) {
        // Copied, because the packet is a view that is valid only until the next one.
        const copy = packet.slice(0, bytesMax - receivedBytes);
        packets.push(copy);
        receivedBytes += copy.byteLength;
        if (copy.byteLength === packet.byteLength) return;
        body.abort();
        finish();
      },
      onEnd: finish,
    });
  });
}
