import type { Socket } from "bun";

const CONNECT_TIMEOUT_MS = 30_000;
/** Concurrent handshakes: servers have a limited backlog of connections. */
const CONNECTING_MAX = 64;

type State = {
  rest: Buffer | null;
  unsent: Buffer[];
  /** Valid after the handshake. */
  wire: Wire | null;
  opened(wire: Wire): void;
  failed(error: Error): void;
  onText(payload: Buffer, wire: Wire): void;
  onEnd: (() => void) | undefined;
};

/** A minimal WebSocket client, so that the load uses little CPU compared with what it measures. */
export type Wire = { send(frame: Buffer): void; close(): void };

export type WireOptions = {
  url: string;
  headers: Record<string, string>;
  /** A text frame has arrived; its bytes are only valid during the call. */
  onText(payload: Buffer, wire: Wire): void;
  /** The server closed the connection. Absent: that is an error. */
  onEnd?: () => void;
};

/** A client's frame with this text. It is masked, as required, with a mask of zeros. */
export function encodeText(text: string): Buffer {
  return encodeFrame(0x81, Buffer.from(text));
}

function encodeFrame(firstByte: number, payload: Buffer): Buffer {
  const isShort = payload.length < 126;
  if (payload.length > 0xffff) throw new Error("Frames of the load must be shorter than 64 KiB.");
  const head = Buffer.alloc(isShort ? 6 : 8);
  head[0] = firstByte;
  head[1] = 0x80 | (isShort ? payload.length : 126);
  if (!isShort) head.writeUInt16BE(payload.length, 2);
  return Buffer.concat([head, payload]);
}

/** Opens many, a few at a time. */
export async function connectAll(options: WireOptions[]): Promise<Wire[]> {
  const wires: Wire[] = [];
  for (let from = 0; from < options.length; from += CONNECTING_MAX)
    wires.push(...(await Promise.all(options.slice(from, from + CONNECTING_MAX).map(connect))));
  return wires;
}

/** Resolves when the server has accepted the upgrade. */
export function connect({ url, headers, onText, onEnd }: WireOptions): Promise<Wire> {
  const { hostname, port, pathname, search } = new URL(url);
  const lines = {
    host: `${hostname}:${port}`,
    connection: "Upgrade",
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString("base64"),
    ...headers,
  };
  const fields = Object.entries(lines).map(([name, value]) => `${name}: ${value}\r\n`);
  const { promise, resolve, reject } = Promise.withResolvers<Wire>();
  setTimeout(() => reject(new Error("The handshake timed out.")), CONNECT_TIMEOUT_MS).unref();
  Bun.connect<State>({
    hostname,
    port: Number(port),
    data: { rest: null, unsent: [], wire: null, opened: resolve, failed: reject, onText, onEnd },
    socket: {
      open: (socket) => void socket.write(`GET ${pathname}${search} HTTP/1.1\r\n${fields.join("")}\r\n`),
      data: receive,
      drain: flush,
      close: fail,
    },
  }).catch(reject);
  return promise;
}

function fail({ data }: Socket<State>): void {
  if (!data.wire) {
    data.failed(new Error("The server refused a connection."));
    return;
  }
  if (data.onEnd) {
    data.onEnd();
    return;
  }
  console.error("A server closed a connection.");
  process.exit(1);
}

function receive(socket: Socket<State>, chunk: Buffer): void {
  const { data } = socket;
  let bytes = data.rest ? Buffer.concat([data.rest, chunk]) : chunk;
  if (!data.wire) {
    const end = bytes.indexOf("\r\n\r\n");
    if (end >= 0) {
      const status = bytes.toString("latin1", 0, end).split("\r\n")[0];
      if (!status?.includes(" 101 ")) {
        data.failed(new Error(`The server returned ${status}.`));
        return;
      }
      data.wire = createWire(socket);
      data.opened(data.wire);
      bytes = bytes.subarray(end + 4);
    }
  }
  const used = data.wire ? readFrames(socket, data.wire, bytes) : 0;
  // The runtime reuses the chunk's memory for the next one.
  data.rest = used < bytes.length ? Buffer.from(bytes.subarray(used)) : null;
}

/** @returns the length of the complete frames in bytes. */
function readFrames(socket: Socket<State>, wire: Wire, bytes: Buffer): number {
  let at = 0;
  while (at + 2 <= bytes.length) {
    const short = (bytes[at + 1] ?? 0) & 0x7f;
    const headBytes = short < 126 ? 2 : short === 126 ? 4 : 10;
    if (at + headBytes > bytes.length) break;
    const payloadBytes =
      short < 126 ? short : short === 126 ? bytes.readUInt16BE(at + 2) : Number(bytes.readBigUInt64BE(at + 2));
    const end = at + headBytes + payloadBytes;
    if (end > bytes.length) break;
    const kind = (bytes[at] ?? 0) & 0x0f;
    if (kind === 1) socket.data.onText(bytes.subarray(at + headBytes, end), wire);
    else if (kind === 9) write(socket, encodeFrame(0x8a, bytes.subarray(at + headBytes, end)));
    at = end;
  }
  return at;
}

function createWire(socket: Socket<State>): Wire {
  return {
    send: (frame) => write(socket, frame),
    close() {
      socket.data.wire = null;
      socket.data.failed = () => {};
      socket.end();
    },
  };
}

function write(socket: Socket<State>, frame: Buffer): void {
  const { unsent } = socket.data;
  if (unsent.length > 0) return void unsent.push(frame);
  const written = Math.max(0, socket.write(frame));
  if (written < frame.length) unsent.push(frame.subarray(written));
}

function flush(socket: Socket<State>): void {
  const frames = socket.data.unsent.splice(0);
  for (const frame of frames) write(socket, frame);
}
