/** Maximum size of a status line with all header fields, and of a line between chunks. */
export const HEAD_BYTES_MAX = 64 * 1024;
const CHUNK_LINE_BYTES_MAX = 4 * 1024;

export type ResponseHead = { status: number; headers: Headers };

export type ResponseReceiver = {
  onHead(head: ResponseHead): void;
  /** Receives bytes of the body, without its framing. The view is only valid until the next packet. */
  onBody(bytes: Uint8Array): void;
  /**
   * Called when the response is complete.
   * @param canReuse whether the connection can be used for another request.
   * @param keepAliveSeconds the server's keep-alive timeout, or null if unknown.
   */
  onEnd(canReuse: boolean, keepAliveSeconds: number | null): void;
};

/** The received data isn't a valid HTTP/1.1 response. */
export class MalformedResponseError extends Error {}

const LF = 10;
const CR = 13;
const statusLine = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: [^\r\n\0]*)?$/;
const fieldLine = /^([!#$%&'*+.^_`|~\w-]+):[ \t]*([^\r\n\0]*?)[ \t]*$/;
const chunkLine = /^([0-9a-f]{1,12})[ \t]*(?:;.*)?$/i;
/** Maximum length of the empty line that ends a head, including the line break before it. */
const HEAD_END_BYTES_MAX = 4;
/** Chunk sizes with up to this many hexadecimal digits are parsed directly from bytes. */
const PLAIN_SIZE_DIGITS_MAX = 7;

/**
 * Creates a parser for one response (RFC 9112). Packets may be split anywhere. Ambiguous framing is rejected, because bytes of one
 * response could otherwise be parsed as part of another.
 */
export function createResponseParser(receiver: ResponseReceiver, headBytesMax = HEAD_BYTES_MAX) {
  let state: "head" | "length" | "close" | "chunk-line" | "chunk" | "chunk-end" | "trailer" | "over" = "head";
  /** The number of remaining bytes of the body or the chunk. */
  let remainingBytes = 0;
  let canReuse = true;
  let keepAliveSeconds: number | null = null;
  /** The total size of interim responses and trailers, which are skipped. */
  let skippedBytes = 0;
  /** An incomplete line or head. */
  let pendingBytes: Buffer | null = null;
  /** Number of bytes of an incomplete head that have already been searched for its end. */
  let searchedBytes = 0;

  const isOver = (): boolean => state === "over";

  function beginBody({ status, headers }: ResponseHead): void {
    const coding = headers.get("transfer-encoding")?.toLowerCase();
    const length = headers.get("content-length");
    if (status === 204 || status === 304) state = "over";
    else if (coding !== undefined) {
      if (coding !== "chunked") throw new MalformedResponseError(`transfer encoding ${coding}`);
      if (length !== null) canReuse = false;
      state = "chunk-line";
    } else if (length !== null) {
      // A repeated Content-Length becomes a comma-separated list, which is rejected like other invalid values.
      if (!/^\d{1,15}$/.test(length)) throw new MalformedResponseError(`content length ${length.slice(0, 50)}`);
      remainingBytes = Number(length);
      state = remainingBytes === 0 ? "over" : "length";
    } else {
      canReuse = false;
      state = "close";
    }
  }

  function countSkipped(text: string): void {
    skippedBytes += text.length;
    if (skippedBytes > headBytesMax)
      throw new MalformedResponseError(`more than ${headBytesMax} bytes of interim responses or trailers`);
  }

  function parseHead(text: string): void {
    const [firstLine = "", ...lines] = text.split(/\r?\n/);
    const [, version, status] = statusLine.exec(firstLine) ?? [];
    if (status === undefined) throw new MalformedResponseError(`status line ${firstLine.slice(0, 50)}`);
    // Interim responses, such as 100 and 103, are skipped. Parley never requests a protocol change.
    if (status.startsWith("1")) {
      if (status === "101") throw new MalformedResponseError("unexpected protocol change");
      countSkipped(text);
      return;
    }
    const headers = new Headers();
    for (const line of lines) {
      const [, name, value] = fieldLine.exec(line) ?? [];
      if (name === undefined || value === undefined) throw new MalformedResponseError("invalid header field");
      headers.append(name, value);
    }
    const connection = headers.get("connection")?.toLowerCase() ?? "";
    canReuse = version === "1" ? !connection.includes("close") : connection.includes("keep-alive");
    const keepAlive = headers.get("keep-alive");
    keepAliveSeconds = keepAlive === null ? null : parseKeepAlive(keepAlive);
    const head = { status: Number(status), headers };
    receiver.onHead(head);
    beginBody(head);
  }

  function parseChunkLine(text: string): void {
    if (state === "chunk-end") {
      if (text !== "") throw new MalformedResponseError("invalid chunk end");
      state = "chunk-line";
    } else if (state === "trailer") {
      if (text === "") state = "over";
      else countSkipped(text);
    } else {
      const size = chunkLine.exec(text)?.[1];
      if (size === undefined) throw new MalformedResponseError("invalid chunk size");
      remainingBytes = Number.parseInt(size, 16);
      state = remainingBytes === 0 ? "trailer" : "chunk";
    }
  }

  /** Fast path for typical chunk lines. Returns the position after the line, or -1 for other lines. */
  function parsePlainLine(bytes: Buffer, start: number): number {
    if (state === "chunk-end") {
      if (bytes[start] !== CR && bytes[start] !== LF) throw new MalformedResponseError("invalid chunk end");
      if (bytes[start] !== CR || bytes[start + 1] !== LF) return -1;
      state = "chunk-line";
      return start + 2;
    }
    let size = 0;
    for (let index = start; index < start + PLAIN_SIZE_DIGITS_MAX; index += 1) {
      const byte = bytes[index] ?? 0;
      if (byte === CR && index > start && bytes[index + 1] === LF) {
        remainingBytes = size;
        state = size === 0 ? "trailer" : "chunk";
        return index + 2;
      }
      const digit = findDigit(byte);
      if (digit < 0) return -1;
      size = size * 16 + digit;
    }
    return -1;
  }

  /** Parses a head or a line. Returns the position after it, or -1 if it is incomplete. */
  function parseText(bytes: Buffer, start: number): number {
    if (state === "chunk-line" || state === "chunk-end") {
      const lineEnd = parsePlainLine(bytes, start);
      if (lineEnd >= 0) return lineEnd;
    }
    const bytesMax = state === "head" ? headBytesMax : CHUNK_LINE_BYTES_MAX;
    const end = state === "head" ? findHeadEnd(bytes, start + searchedBytes) : bytes.indexOf(LF, start) + 1;
    if ((end > 0 ? end : bytes.length) - start > bytesMax)
      throw new MalformedResponseError(`more than ${bytesMax} bytes`);
    searchedBytes = end <= 0 && state === "head" ? Math.max(0, bytes.length - start - HEAD_END_BYTES_MAX + 1) : 0;
    if (end <= 0) return -1;
    const text = bytes.toString("latin1", start, end).replace(state === "head" ? /(?:\r?\n){2}$/ : /\r?\n$/, "");
    if (state === "head") parseHead(text);
    else parseChunkLine(text);
    return end;
  }

  function parseBody(bytes: Buffer, start: number): number {
    const end = state === "close" ? bytes.length : Math.min(bytes.length, start + remainingBytes);
    if (state !== "close") remainingBytes -= end - start;
    if (end > start) receiver.onBody(bytes.subarray(start, end));
    if (remainingBytes > 0 || state === "close") return end;
    if (state === "length") state = "over";
    else if (state === "chunk") state = "chunk-end";
    return end;
  }

  return {
    /** Parses a packet. @throws MalformedResponseError if the connection must be closed. */
    push(packet: Uint8Array): void {
      if (isOver()) {
        if (packet.byteLength > 0) throw new MalformedResponseError("data after the response");
        return;
      }
      const packetBytes = Buffer.isBuffer(packet)
        ? packet
        : Buffer.from(packet.buffer, packet.byteOffset, packet.byteLength);
      const bytes = pendingBytes ? Buffer.concat([pendingBytes, packetBytes]) : packetBytes;
      pendingBytes = null;
      let position = 0;
      while (position < bytes.length && !isOver()) {
        const isBody = state === "chunk" || state === "length" || state === "close";
        const nextPosition = isBody ? parseBody(bytes, position) : parseText(bytes, position);
        if (nextPosition < 0) {
          // Copied, because Bun may reuse the memory of a packet.
          pendingBytes = Buffer.from(bytes.subarray(position));
          return;
        }
        position = nextPosition;
      }
      // If there are bytes after the response, the connection must be closed (RFC 9112, 6.3).
      if (isOver()) receiver.onEnd(canReuse && position === bytes.length, keepAliveSeconds);
    },

    isOver,

    /** Must be called when the connection is closed. Returns whether the response is complete. */
    close(): boolean {
      if (state === "close") {
        state = "over";
        receiver.onEnd(false, null);
      }
      return isOver();
    },
  };
}

export type ResponseParser = ReturnType<typeof createResponseParser>;

/** Parses the seconds in a field like `timeout=5, max=100`. */
function parseKeepAlive(value: string): number | null {
  const seconds = /\btimeout\s*=\s*"?(\d{1,9})\b/i.exec(value)?.[1];
  return seconds === undefined ? null : Number(seconds);
}

/** Returns the value of a hexadecimal digit, or -1. */
function findDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lowercase = byte | 0x20;
  return lowercase >= 0x61 && lowercase <= 0x66 ? lowercase - 0x57 : -1;
}

/** Finds the position after the empty line that ends a head. Returns 0 if it hasn't arrived. */
function findHeadEnd(bytes: Buffer, start: number): number {
  for (let index = bytes.indexOf(LF, start); index >= 0; index = bytes.indexOf(LF, index + 1)) {
    if (bytes[index + 1] === LF) return index + 2;
    if (bytes[index + 1] === CR && bytes[index + 2] === LF) return index + 3;
  }
  return 0;
}
