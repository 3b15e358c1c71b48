import type { Socket, TLSOptions } from "bun";
import { type IncomingResponse, type SendOptions, sendRequest } from "../../src/lib/http-client/client.ts";
import { prepareRequest } from "../../src/lib/http-client/prepared-request.ts";

export const ask = (url: string | URL, body = "", options: Partial<SendOptions> = {}): Promise<IncomingResponse> =>
  sendRequest(prepareRequest({ url: new URL(url), method: "POST", headers: new Headers({ "x-own": "yes" }) }), body, {
    signal: null,
    ...options,
  });

/** The whole body, or what went wrong after how much of it. */
export function readAll({ body }: IncomingResponse): Promise<{ text: string; error: string | null }> {
  let text = "";
  return new Promise((resolve) =>
    body.listen({
      onBytes: (bytes) => {
        text += Buffer.from(bytes).toString();
      },
      onEnd: (error) => resolve({ text, error: error?.message ?? null }),
    }),
  );
}

/** After this a connection whose answer has ended is offered again: what came with the end of the answer has been read. */
export const settle = (): Promise<void> =>
  new Promise((resolve) => void setImmediate(() => setImmediate(() => setImmediate(resolve))));

export type RawServer = {
  url: string;
  /** Connections that were opened. */
  connections: number;
  /** The first lines of the requests that came. */
  requests: string[];
  stop(): void;
};

/** A server that answers every packet by these very bytes, and counts its connections. */
export function serveBytes(answer: (socket: Socket, packet: string) => void, tls: TLSOptions | null = null): RawServer {
  const server = Bun.listen({
    hostname: "localhost",
    port: 0,
    ...(tls && { tls }),
    socket: {
      open: () => {
        seen.connections += 1;
      },
      data(socket, bytes) {
        const packet = bytes.toString();
        if (packet.startsWith("POST ")) seen.requests.push(packet.slice(0, packet.indexOf("\r")));
        answer(socket, packet);
      },
      // A client that hangs up is no fault of the server.
      error: () => {},
    },
  });
  const seen: RawServer = {
    url: `http${tls ? "s" : ""}://localhost:${server.port}/`,
    connections: 0,
    requests: [],
    stop: () => server.stop(true),
  };
  return seen;
}
