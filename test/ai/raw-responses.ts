import type { Socket } from "bun";
import type { MockProvider } from "../support/mock-provider/server.ts";

/** A scripted response. */
export type RawResponse = {
  /** The `content-type` header. It is omitted by default. */
  contentType?: string;
  status?: number;
  /** The body. Its strings are sent one at a time, `pauseMs` apart. */
  packets: string[];
  pauseMs?: number;
  /** How the response ends: normally, with a connection reset, or never. */
  end?: "normal" | "reset" | "open";
};

/** A server for all three protocols, with a scripted response for each model. */
export type RawResponseServer = {
  responses: Map<string, RawResponse>;
  /** The requested models, in order. */
  requestedModels: string[];
  /** The mock provider with this server's URLs, for `createTestChain`. */
  mockProvider: MockProvider;
  stop(): void;
};

/** Starts a server with scripted responses. Models without a scripted response never respond. */
export function startRawResponseServer(mockProvider: MockProvider): RawResponseServer {
  const responses = new Map<string, RawResponse>();
  const requestedModels: string[] = [];
  const requests = new WeakMap<Socket, string>();
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, bytes) {
        const request = (requests.get(socket) ?? "") + bytes.toString();
        requests.set(socket, request);
        const model = /"model":"([^"]*)"/.exec(request)?.[1];
        const length = Number(/content-length: (\d+)/.exec(request)?.[1]);
        if (model === undefined || Buffer.byteLength(request.split("\r\n\r\n")[1] ?? "") < length) return;
        requests.delete(socket);
        requestedModels.push(model);
        const response = responses.get(model);
        if (response) void sendResponse(socket, response);
      },
      error: () => {},
    },
  });
  const origin = `http://127.0.0.1:${server.port}`;
  return {
    responses,
    requestedModels,
    mockProvider: { ...mockProvider, openaiUrl: `${origin}/v1`, anthropicUrl: origin },
    stop: () => server.stop(true),
  };
}

async function sendResponse(
  socket: Socket,
  { contentType, status = 200, packets, pauseMs = 1, end = "normal" }: RawResponse,
) {
  const type = contentType === undefined ? "" : `content-type: ${contentType}\r\n`;
  socket.write(`HTTP/1.1 ${status} Scripted\r\n${type}transfer-encoding: chunked\r\n\r\n`);
  for (const packet of packets) {
    await Bun.sleep(pauseMs);
    socket.write(`${Buffer.byteLength(packet).toString(16)}\r\n${packet}\r\n`);
    socket.flush();
  }
  await Bun.sleep(pauseMs);
  if (end === "normal") socket.write("0\r\n\r\n");
  if (end === "reset") socket.terminate();
}
