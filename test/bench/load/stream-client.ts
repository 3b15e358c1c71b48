import type { Socket } from "bun";

export type StreamClient = ReturnType<typeof createStreamClient>;

type Watcher = { onFirst(): void; onEnd(): void };
type State = { watcher: Watcher | null; hasText: boolean; head: string; tail: string };

/** The end of a chunked body. */
const LAST_CHUNK = "\r\n0\r\n\r\n";

/**
 * An HTTP client that only looks for two marks in the answers, so that the load costs little beside what it measures.
 * Connections are kept and used again, as every real client does.
 */
export function createStreamClient(options: {
  url: string;
  headers: Record<string, string>;
  body: string;
  firstMark: string;
  lastMark: string;
}) {
  const { hostname, port } = new URL(options.url);
  const { body, firstMark, lastMark } = options;
  const idle: Socket<State>[] = [];
  const fields = Object.entries({
    host: `${hostname}:${port}`,
    "content-type": "application/json",
    "content-length": String(Buffer.byteLength(body)),
    ...options.headers,
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  const tailChars = Math.max(lastMark.length, LAST_CHUNK.length) + 64;

  function begin(socket: Socket<State>, request: string, watcher: Watcher): void {
    Object.assign(socket.data, { watcher, hasText: false, head: "", tail: "" });
    socket.write(request);
  }

  function receive(socket: Socket<State>, bytes: Buffer): void {
    const { data } = socket;
    if (!data.watcher) return;
    const text = bytes.toString("latin1");
    if (!data.hasText) {
      data.head += text;
      if (!/^HTTP\/1.1 2/.test(data.head)) fail(`The server answered ${data.head.slice(0, 500)}`);
      if (data.head.includes(firstMark)) {
        data.hasText = true;
        data.watcher.onFirst();
      }
    }
    data.tail = (data.tail + text).slice(-(tailChars + text.length));
    if (!data.tail.endsWith(LAST_CHUNK)) return;
    if (!(data.head + data.tail).includes(lastMark)) fail(`A stream ended too soon: ${data.head}${data.tail}`);
    const { watcher } = data;
    data.watcher = null;
    idle.push(socket);
    watcher.onEnd();
  }

  return {
    ask(path: string, watcher: Watcher): void {
      const request = `POST ${path} HTTP/1.1\r\n${fields.join("")}\r\n${body}`;
      const socket = idle.pop();
      if (socket) {
        begin(socket, request, watcher);
        return;
      }
      Bun.connect<State>({
        hostname,
        port: Number(port),
        data: { watcher: null, hasText: false, head: "", tail: "" },
        socket: {
          open: (opened) => begin(opened, request, watcher),
          data: receive,
          close(closed) {
            if (closed.data.watcher) fail("A server ended a connection.");
            const index = idle.indexOf(closed);
            if (index >= 0) idle.splice(index, 1);
          },
        },
      }).catch((error) => fail(String(error)));
    },
  };
}

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}
