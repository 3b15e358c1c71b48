import type { Socket, TLSOptions } from "bun";
import { type IncomingResponse, type SendOptions, sendRequest } from "../../src/lib/http-client/client.ts";
import { prepareRequest } from "../../src/lib/http-client/prepared-request.ts";

/** Sends a POST request with Parley's HTTP client. */
export const post = (url: string | URL, body = "", options: Partial<SendOptions> = {}): Promise<IncomingResponse> =>
  sendRequest(prepareRequest({ url: new URL(url), method: "POST", headers: new Headers({ "x-own": "yes" }) }), body, {
    signal: null,
    ...options,
  });

/** Reads a body to its end or to an error. */
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

/** Waits until a connection can be reused after its response has ended. */
export const waitUntilReusable = (): Promise<void> =>
  new Promise((resolve) => void setImmediate(() => setImmediate(() => setImmediate(resolve))));

export type RawServer = {
  url: string;
  /** The number of opened connections. */
  connections: number;
  /** The first lines of the received requests. */
  requests: string[];
  stop(): void;
};

/** Starts a server that calls `respond` for every packet, and counts connections and requests. */
export function startRawServer(
  respond: (socket: Socket, packet: string) => void,
  tls: TLSOptions | null = null,
): RawServer {
  const server = Bun.listen({
    hostname: "localhost",
    port: 0,
    ...(tls && { tls }),
    socket: {
      open: () => {
        rawServer.connections += 1;
      },
      data(socket, bytes) {
        const packet = bytes.toString();
        if (packet.startsWith("POST ")) rawServer.requests.push(packet.slice(0, packet.indexOf("\r")));
        respond(socket, packet);
      },
      // A disconnecting client is not a server error.
      error: () => {},
    },
  });
  const rawServer: RawServer = {
    url: `http${tls ? "s" : ""}://localhost:${server.port}/`,
    connections: 0,
    requests: [],
    stop: () => server.stop(true),
  };
  return rawServer;
}
