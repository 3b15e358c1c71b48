import type { Socket, TLSOptions } from "bun";
import { type IncomingResponse, type SendOptions, sendRequest } from "../../src/lib/http-client/client.ts";
import { prepareRequest } from "../../src/lib/http-client/prepared-request.ts";

export const ask = (url: string | URL, body = "", options: Partial<SendOptions> = {}): Promise<IncomingResponse> =>
  sendRequest(prepareRequest({ url: new URL(url), method: "POST", headers: new Headers({ "x-own": "yes" }) }), body, {
    signal: null,
    ...options,
  });

/** Reads the whole body, or the error and how much was read before it. */
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

/** Resolves when a connection whose response has ended is reusable: data after the response has been read. */
export const untilReusable = (): Promise<void> =>
  new Promise((resolve) => void setImmediate(() => setImmediate(() => setImmediate(resolve))));

export type RawServer = {
  url: string;
  /** Opened connections. */
  connections: number;
  /** The first lines of the received requests. */
  requests: string[];
  stop(): void;
};

/** A server that answers every packet with exactly these bytes and counts its connections. */
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
      // A disconnecting client is not a server error.
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
