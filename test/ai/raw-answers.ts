import type { Socket } from "bun";
import type { MockProvider } from "../support/mock-provider/server.ts";

/** A server's response to one request, byte by byte. */
export type RawAnswer = {
  /** Default: no header. */
  contentType?: string;
  status?: number;
  /** The body; strings are sent one at a time, `pauseMs` apart. */
  packets: string[];
  pauseMs?: number;
  /** How it ends: normally, with a connection reset, or not at all. */
  end?: "whole" | "reset" | "open";
};

/** A server for all three protocols with scripted responses per model. */
export type RawAnswers = {
  answers: Map<string, RawAnswer>;
  /** The requested models, in order. */
  requestedModels: string[];
  /** The URLs for the providers of `createTestChain`. */
  mockProvider: MockProvider;
  stop(): void;
};

/** Starts it. Models without a scripted response don't respond. */
export function serveRawAnswers(mockProvider: MockProvider): RawAnswers {
  const answers = new Map<string, RawAnswer>();
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
        const answer = answers.get(model);
        if (answer) void send(socket, answer);
      },
      error: () => {},
    },
  });
  const origin = `http://127.0.0.1:${server.port}`;
  return {
    answers,
    requestedModels,
    mockProvider: { ...mockProvider, openaiUrl: `${origin}/v1`, anthropicUrl: origin },
    stop: () => server.stop(true),
  };
}

async function send(socket: Socket, { contentType, status = 200, packets, pauseMs = 1, end = "whole" }: RawAnswer) {
  const type = contentType === undefined ? "" : `content-type: ${contentType}\r\n`;
  socket.write(`HTTP/1.1 ${status} Whatever\r\n${type}transfer-encoding: chunked\r\n\r\n`);
  for (const packet of packets) {
    await Bun.sleep(pauseMs);
    socket.write(`${Buffer.byteLength(packet).toString(16)}\r\n${packet}\r\n`);
    socket.flush();
  }
  await Bun.sleep(pauseMs);
  if (end === "whole") socket.write("0\r\n\r\n");
  if (end === "reset") socket.terminate();
}
