import type { Socket, TLSOptions } from "bun";
import type { GuardedRequest } from "../../../src/lib/outgoing/send-guarded.ts";

export type Receiver = { port: number; connections: number; requests: string[]; closed: number; stop(): void };

/** A receiver on 127.0.0.1 that writes the response to each request with `answer`. */
export function receive(answer: (socket: Socket, request: string) => void, tls: TLSOptions | null = null): Receiver {
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    ...(tls && { tls }),
    socket: {
      open: () => {
        seen.connections += 1;
      },
      data(socket, bytes) {
        const request = bytes.toString();
        seen.requests.push(request);
        answer(socket, request);
      },
      close: () => {
        seen.closed += 1;
      },
      error: () => {},
    },
  });
  const seen: Receiver = { port: server.port, connections: 0, requests: [], closed: 0, stop: () => server.stop(true) };
  return seen;
}

export const respond = (head: string, body: string): string =>
  `HTTP/1.1 ${head}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

/** A request with the usual limits that may go to this machine. */
export const request = (url: string, more: Partial<GuardedRequest> = {}): GuardedRequest => ({
  url: new URL(url),
  method: "POST",
  headers: { "content-type": "application/json" },
  body: "{}",
  timeoutMs: 2_000,
  responseBytesMax: 1_024,
  allowsPrivate: true,
  ...more,
});
