import { ProxyError } from "./errors.ts";
import { createProxyFailure, createProxyRejection, type ProxyRoute } from "./proxy.ts";
import { createResponseParser } from "./response-parser.ts";

/** Maximum size of the head of a proxy's response to CONNECT. */
const HEAD_BYTES_MAX = 16 * 1024;

/**
 * Creates a reader for a proxy's response to CONNECT.
 * @param authority host and port of the server.
 * @returns a function that receives a packet and returns whether the tunnel is open. It throws ProxyError if the proxy rejects the
 *   connection.
 */
export function createTunnelReader(route: ProxyRoute, authority: string): (packet: Uint8Array) => boolean {
  let isEstablished = false;
  const parser = createResponseParser(
    {
      onHead({ status }) {
        if (status < 200 || status > 299) throw createProxyRejection(route, authority, status);
        isEstablished = true;
      },
      onBody() {
        // The server can't send anything before it has received the request.
        throw new Error("data after its response");
      },
      onEnd() {},
    },
    HEAD_BYTES_MAX,
  );
  return (packet) => {
    try {
      parser.push(packet);
      return isEstablished;
    } catch (error) {
      if (error instanceof ProxyError) throw error;
      throw createProxyFailure(route, error instanceof Error ? error : new Error("not an HTTP response"));
    }
  };
}
