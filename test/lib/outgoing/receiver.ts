import type { Socket, TLSOptions } from "bun";
import type { GuardedRequest } from "../../../src/lib/outgoing/send-guarded.ts";

export type Receiver = { port: number; connectionCount: number; requests: string[]; closedCount: number; stop(): void };

/** Starts a receiver on 127.0.0.1. `respond` writes the response to each request. */
export function startReceiver(
  respond: (socket: Socket, request: string) => void,
  tls: TLSOptions | null = null,
): Receiver {
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    ...(tls && { tls }),
    socket: {
      open: () => {
        receiver.connectionCount += 1;
      },
      data(socket, bytes) {
        const request = bytes.toString();
        receiver.requests.push(request);
        respond(socket, request);
      },
      close: () => {
        receiver.closedCount += 1;
      },
      error: () => {},
    },
  });
  const receiver: Receiver = {
    port: server.port,
    connectionCount: 0,
    requests: [],
    closedCount: 0,
    stop: () => server.stop(true),
  };
  return receiver;
}

/** Formats an HTTP response. `head` is the status and any headers. */
export const formatResponse = (head: string, body: string): string =>
  `HTTP/1.1 ${head}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

/** Creates a request that is allowed to connect to this machine. */
export const createRequest = (url: string, options: Partial<GuardedRequest> = {}): GuardedRequest => ({
  url: new URL(url),
  method: "POST",
  headers: { "content-type": "application/json" },
  body: "{}",
  timeoutMs: 2_000,
  responseBytesMax: 1_024,
  allowPrivate: true,
  ...options,
});
