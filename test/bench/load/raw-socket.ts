import type { Socket } from "bun";

const CONNECT_TIMEOUT_MS = 30_000;
/** Maximum number of concurrent handshakes, because servers have a limited backlog. */
const CONNECTING_MAX = 64;
const TEXT_OPCODE = 1;
const PING_OPCODE = 9;
const PONG_OPCODE = 10;

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
  /** Receives a text frame. The payload is valid only during the call. */
  onText(payload: Buffer, rawSocket: RawSocket): void;
  /** Called when the server closes the connection. If absent, the load process exits with an error. */
  onClose?: () => void;
};

/** Encodes a text frame. Clients must mask their frames. The mask is zero, so the payload doesn't change. */
export function encodeText(text: string): Buffer {
  return encodeFrame(0x80 | TEXT_OPCODE, Buffer.from(text));
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
export async function openSockets(options: RawSocketOptions[]): Promise<RawSocket[]> {
  const sockets: RawSocket[] = [];
  for (let from = 0; from < options.length; from += CONNECTING_MAX)
    sockets.push(...(await Promise.all(options.slice(from, from + CONNECTING_MAX).map(openSocket))));
  return sockets;
}

/** Opens a connection. Resolves when the server has accepted the upgrade. */
export function openSocket({ url, headers, onText, onClose }: RawSocketOptions): Promise<RawSocket> {
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
      data: receiveChunk,
      drain: writeUnsentFrames,
      close: handleClose,
    },
  }).catch(reject);
  return promise;
}

function handleClose({ data }: Socket<State>): void {
  if (!data.rawSocket) {
    data.onError(new Error("The server closed a connection during the handshake."));
    return;
  }
  if (data.onClose) {
    data.onClose();
    return;
  }
  console.error("A server closed a connection.");
  process.exit(1);
}

function receiveChunk(socket: Socket<State>, chunk: Buffer): void {
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
  let start = 0;
  while (start + 2 <= bytes.length) {
    // Values of up to 125 are the length itself. 126 and 127 mean that the length follows in 2 or 8 bytes.
    const lengthCode = (bytes[start + 1] ?? 0) & 0x7f;
    const headBytes = lengthCode < 126 ? 2 : lengthCode === 126 ? 4 : 10;
    if (start + headBytes > bytes.length) break;
    const payloadBytes =
      lengthCode < 126
        ? lengthCode
        : lengthCode === 126
          ? bytes.readUInt16BE(start + 2)
          : Number(bytes.readBigUInt64BE(start + 2));
    const end = start + headBytes + payloadBytes;
    if (end > bytes.length) break;
    const payload = bytes.subarray(start + headBytes, end);
    const opcode = (bytes[start] ?? 0) & 0x0f;
    if (opcode === TEXT_OPCODE) socket.data.onText(payload, rawSocket);
    else if (opcode === PING_OPCODE) writeFrame(socket, encodeFrame(0x80 | PONG_OPCODE, payload));
    start = end;
  }
  return start;
}

function createRawSocket(socket: Socket<State>): RawSocket {
  return {
    send: (frame) => writeFrame(socket, frame),
    close() {
      socket.data.rawSocket = null;
      socket.data.onError = () => {};
      socket.end();
    },
  };
}

function writeFrame(socket: Socket<State>, frame: Buffer): void {
  const { unsent } = socket.data;
  if (unsent.length > 0) return void unsent.push(frame);
  const writtenBytes = Math.max(0, socket.write(frame));
  if (writtenBytes < frame.length) unsent.push(frame.subarray(writtenBytes));
}

function writeUnsentFrames(socket: Socket<State>): void {
  const frames = socket.data.unsent.splice(0);
  for (const frame of frames) writeFrame(socket, frame);
}
