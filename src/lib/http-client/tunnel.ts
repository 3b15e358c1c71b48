import { ProxyError } from "./errors.ts";
import { createProxyFailure, createProxyRefusal, type ProxyRoute } from "./proxy.ts";
import { createResponseParser } from "./response-parser.ts";

/** Most bytes of a proxy's answer to CONNECT, before its body. */
const HEAD_BYTES_MAX = 16 * 1024;

/**
 * Reads what a proxy answers to CONNECT.
 * @param authority host and port of the server.
 * @returns takes a packet, and tells whether the connection to the server is there. @throws ProxyError when there will be none.
 */
export function createTunnelReader(route: ProxyRoute, authority: string): (packet: Uint8Array) => boolean {
  let isEstablished = false;
  const parser = createResponseParser(
    {
      onHead({ status }) {
        if (status < 200 || status > 299) throw createProxyRefusal(route, authority, status);
        isEstablished = true;
      },
      onBody() {
        // A server says nothing before it is asked.
        throw new Error("bytes behind its answer");
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
      throw createProxyFailure(route, error instanceof Error ? error : new Error("no HTTP answer"));
    }
  };
}
