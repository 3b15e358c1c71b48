import type { Socket } from "bun";
import type { Packet } from "./recorded-answer.ts";

export type StreamClient = ReturnType<typeof createStreamClient>;

type ResponseListener = { onEnd(packets: Packet[]): void };
type State = {
  /** Null while no request is in flight. */
  listener: ResponseListener | null;
  packets: Packet[];
  /** The last bytes received. The end of a body can be split across packets. */
  tail: string;
};

/** The end of a chunked body. */
const LAST_CHUNK = "\r\n0\r\n\r\n";

/**
 * Creates an HTTP client that uses little CPU, because it only records packets and detects the end of each response. Like
 * real clients, it keeps connections alive.
 */
export function createStreamClient(options: { url: string; headers: Record<string, string> }) {
  const { hostname, port } = new URL(options.url);
  const idleSockets: Socket<State>[] = [];
  const fields = Object.entries({
    host: `${hostname}:${port}`,
    "content-type": "application/json",
    ...options.headers,
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  const head = fields.join("");

  function writeRequest(socket: Socket<State>, request: string, listener: ResponseListener): void {
    Object.assign(socket.data, { listener, packets: [], tail: "" } satisfies State);
    socket.write(request);
  }

  function receiveData(socket: Socket<State>, bytes: Buffer): void {
    const { data } = socket;
    if (!data.listener) return;
    const text = bytes.toString("latin1");
    if (data.packets.length === 0 && !text.startsWith("HTTP/1.1 2"))
      exitWithError(`The server returned ${summarizeResponse(text)}`);
    data.packets.push({ atMs: performance.now(), text });
    data.tail = text.length < LAST_CHUNK.length ? (data.tail + text).slice(-LAST_CHUNK.length) : text;
    if (!data.tail.endsWith(LAST_CHUNK)) return;
    const { listener } = data;
    data.listener = null;
    idleSockets.push(socket);
    listener.onEnd(data.packets);
  }

  return {
    sendRequest(path: string, body: string, listener: ResponseListener): void {
      const length = `content-length: ${Buffer.byteLength(body)}\r\n`;
      const requestText = `POST ${path} HTTP/1.1\r\n${head}${length}\r\n${body}`;
      const socket = idleSockets.pop();
      if (socket) {
        writeRequest(socket, requestText, listener);
        return;
      }
      Bun.connect<State>({
        hostname,
        port: Number(port),
        data: { listener: null, packets: [], tail: "" },
        socket: {
          open: (opened) => writeRequest(opened, requestText, listener),
          data: receiveData,
          close(closed) {
            if (closed.data.listener) exitWithError("A server closed a connection.");
            const index = idleSockets.indexOf(closed);
            if (index >= 0) idleSockets.splice(index, 1);
          },
        },
      }).catch((error) => exitWithError(String(error)));
    },
  };
}

/** Returns the status line and the beginning of the body, which contains the error. */
function summarizeResponse(response: string): string {
  const bodyStart = response.indexOf("\r\n\r\n");
  return `${response.slice(0, response.indexOf("\r\n"))}: ${response.slice(bodyStart).trim().slice(0, 500)}`;
}

function exitWithError(message: string): never {
  console.error(message);
  process.exit(1);
}
