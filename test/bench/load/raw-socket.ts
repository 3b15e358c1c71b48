import type { Socket } from "bun";

const CONNECT_TIMEOUT_MS = 30_000;
/** Maximum number of concurrent handshakes, because servers have a limited backlog. */
const CONNECTING_MAX = 64;

type State = {
  incomplete: Buffer | null;
  unsent: Buffer[];
  /** Null before the handshake. */
  rawSocket: RawSocket | null;
  onOpen(rawSocket: RawSocket): void;
  onError(error: Error): void;
  onText(payload: Buffer, rawSocket: RawSocket): void;
  onClose: (() => void) | undefined;
};

/** A minimal WebSocket client, which uses little CPU. */
export type RawSocket = { send(frame: Buffer): void; close(): void };

export type RawSocketOptions = {
  url: string;
  headers: Record<string, string>;
  /** Receives a text frame. The payload is only valid during the call. */
  onText(payload: Buffer, rawSocket: RawSocket): void;
  /** Called when the server closes the connection. If absent, the load process exits with an error. */
  onClose?: () => void;
};

/** Encodes a text frame. Clients must mask their frames, so the mask is zero. */
export function encodeText(text: string): Buffer {
  return encodeFrame(0x81, Buffer.from(text));
}

function encodeFrame(firstByte: number, payload: Buffer): Buffer {
  const isShort = payload.length < 126;
  if (payload.length > 0xffff) throw new Error("A frame must be shorter than 64 KiB.");
  const head = Buffer.alloc(isShort ? 6 : 8);
  head[0] = firstByte;
  head[1] = 0x80 | (isShort ? payload.length : 126);
  if (!isShort) head.writeUInt16BE(payload.length, 2);
  return Buffer.concat([head, payload]);
}

/** Opens many connections, a few at a time. */
export async function connectAll(options: RawSocketOptions[]): Promise<RawSocket[]> {
  const sockets: RawSocket[] = [];
  for (let from = 0; from < options.length; from += CONNECTING_MAX)
    sockets.push(...(await Promise.all(options.slice(from, from + CONNECTING_MAX).map(connect))));
  return sockets;
}

/** Opens a connection. Resolves when the server has accepted the upgrade. */
export function connect({ url, headers, onText, onClose }: RawSocketOptions): Promise<RawSocket> {
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
  const { promise, resolve, reject } = Promise.withResolvers<RawSocket>();
  setTimeout(() => reject(new Error("The handshake timed out.")), CONNECT_TIMEOUT_MS).unref();
  Bun.connect<State>({
    hostname,
    port: Number(port),
    data: { incomplete: null, unsent: [], rawSocket: null, onOpen: resolve, onError: reject, onText, onClose },
    socket: {
      open: (socket) => void socket.write(`GET ${pathname}${search} HTTP/1.1\r\n${fields.join("")}\r\n`),
      data: receive,
      drain: flush,
      close: handleClose,
    },
  }).catch(reject);
  return promise;
}

function handleClose({ data }: Socket<State>): void {
  if (!data.rawSocket) {
    data.onError(new Error("The server refused a connection."));
    return;
  }
  if (data.onClose) {
    data.onClose();
    return;
  }
  console.error("A server closed a connection.");
  process.exit(1);
}

function receive(socket: Socket<State>, chunk: Buffer): void {
  const { data } = socket;
  let bytes = data.incomplete ? Buffer.concat([data.incomplete, chunk]) : chunk;
  if (!data.rawSocket) {
    const end = bytes.indexOf("\r\n\r\n");
    if (end >= 0) {
      const status = bytes.toString("latin1", 0, end).split("\r\n")[0];
      if (!status?.includes(" 101 ")) {
        data.onError(new Error(`The server returned ${status}.`));
        return;
      }
      data.rawSocket = createRawSocket(socket);
      data.onOpen(data.rawSocket);
      bytes = bytes.subarray(end + 4);
    }
  }
  const parsedBytes = data.rawSocket ? parseFrames(socket, data.rawSocket, bytes) : 0;
  // Copies the bytes, because the runtime reuses the chunk's memory.
  data.incomplete = parsedBytes < bytes.length ? Buffer.from(bytes.subarray(parsedBytes)) : null;
}

/** Parses the complete frames, and returns their length in bytes. */
function parseFrames(socket: Socket<State>, rawSocket: RawSocket, bytes: Buffer): number {
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
    if (kind === 1) socket.data.onText(bytes.subarray(at + headBytes, end), rawSocket);
    else if (kind === 9) write(socket, encodeFrame(0x8a, bytes.subarray(at + headBytes, end)));
    at = end;
  }
  return at;
}

function createRawSocket(socket: Socket<State>): RawSocket {
  return {
    send: (frame) => write(socket, frame),
    close() {
      socket.data.rawSocket = null;
      socket.data.onError = () => {};
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
