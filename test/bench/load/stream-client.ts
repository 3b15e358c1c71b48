import type { Socket } from "bun";
import type { Packet } from "./recorded-answer.ts";

export type StreamClient = ReturnType<typeof createStreamClient>;

type ResponseListener = { onEnd(packets: Packet[]): void };
type State = { listener: ResponseListener | null; packets: Packet[]; tail: string };

/** The end of a chunked body. */
const LAST_CHUNK = "\r\n0\r\n\r\n";

/**
 * Creates an HTTP client that only records the packets of responses and detects their end, so that it uses little CPU.
 * Like real clients, it keeps connections alive.
 */
export function createStreamClient(options: { url: string; headers: Record<string, string> }) {
  const { hostname, port } = new URL(options.url);
  const idle: Socket<State>[] = [];
  const fields = Object.entries({
    host: `${hostname}:${port}`,
    "content-type": "application/json",
    ...options.headers,
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  const head = fields.join("");

  function begin(socket: Socket<State>, request: string, listener: ResponseListener): void {
    Object.assign(socket.data, { watcher: listener, packets: [], tail: "" });
    socket.write(request);
  }

  function receive(socket: Socket<State>, bytes: Buffer): void {
    const { data } = socket;
    if (!data.listener) return;
    const text = bytes.toString("latin1");
    if (data.packets.length === 0 && !text.startsWith("HTTP/1.1 2")) fail(`The server returned ${summarize(text)}`);
    data.packets.push({ atMs: performance.now(), text });
    data.tail = text.length < LAST_CHUNK.length ? (data.tail + text).slice(-LAST_CHUNK.length) : text;
    if (!data.tail.endsWith(LAST_CHUNK)) return;
    const { listener } = data;
    data.listener = null;
    idle.push(socket);
    listener.onEnd(data.packets);
  }

  return {
    request(path: string, body: string, listener: ResponseListener): void {
      const length = `content-length: ${Buffer.byteLength(body)}\r\n`;
      const request = `POST ${path} HTTP/1.1\r\n${head}${length}\r\n${body}`;
      const socket = idle.pop();
      if (socket) {
        begin(socket, request, listener);
        return;
      }
      Bun.connect<State>({
        hostname,
        port: Number(port),
        data: { listener: null, packets: [], tail: "" },
        socket: {
          open: (opened) => begin(opened, request, listener),
          data: receive,
          close(closed) {
            if (closed.data.listener) fail("A server closed a connection.");
            const index = idle.indexOf(closed);
            if (index >= 0) idle.splice(index, 1);
          },
        },
      }).catch((error) => fail(String(error)));
    },
  };
}

/** Returns the status line and the beginning of the body, which contains the error. */
function summarize(response: string): string {
  const bodyAt = response.indexOf("\r\n\r\n");
  return `${response.slice(0, response.indexOf("\r\n"))}: ${response.slice(bodyAt).trim().slice(0, 500)}`;
}

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}
