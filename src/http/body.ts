import { parseJson } from "../lib/json.ts";
import { Problem } from "../lib/problem.ts";
import { isOpenAiPath } from "./openai-error.ts";

/** Limit in bytes for routes with large bodies; larger bodies get 413. */
export const BODY_BYTES_MAX = 1024 * 1024;
/** Limit in bytes for all other routes. */
export const SMALL_BODY_BYTES_MAX = 64 * 1024;

/** A body as received, not yet decoded. */
type ReceivedBody = { chunks: Uint8Array[]; bytes: number };

/** A decoded body; `type` is lowercase, without parameters, and empty if the request has no `Content-Type`. */
export type RawBody = { text: string; bytes: Uint8Array; type: string };

const rawBodies = new WeakMap<Request, RawBody>();

/** For handlers that read their body themselves (`rawBody`): the body of this request. */
export const getRawBody = (request: Request): RawBody =>
  rawBodies.get(request) ?? { ...decode(new Uint8Array()), type: "" };

/** Keeps a body for `getRawBody`. @throws Problem `unsupported_media_type`, `malformed` (invalid UTF-8). */
export function keepRawBody(request: Request, { chunks }: ReceivedBody): void {
  const type = readMediaType(request.headers);
  rawBodies.set(request, { ...decode(Buffer.concat(chunks)), type });
}

/**
 * Parses a body instead of Elysia: only JSON, only valid UTF-8. Text that Postgres can't store is refused before the handler
 * runs. Strings are normalized to NFC, except on `/v1`, where they are passed to models unchanged.
 * @returns null without a body; if the route requires one, its schema refuses null.
 * @throws Problem `unsupported_media_type`, `malformed`.
 */
export function parseBody({ chunks, bytes }: ReceivedBody, headers: Headers, path: string): unknown {
  if (bytes === 0) return null;
  checkType(headers);
  const [first] = chunks;
  const whole = first && chunks.length === 1 ? first : Buffer.concat(chunks);
  const { text } = decode(whole);
  // The bytes are no longer needed, but the request object lives until its response is sent.
  if (bytes > SMALL_BODY_BYTES_MAX) for (const part of new Set([...chunks, whole])) free(part);
  chunks.length = 0;
  return parseJson(text, { keepsForm: isOpenAiPath(path) });
}

/** Frees the memory immediately: bodies that waited in the queue are in the old generation, which is collected late. */
function free({ buffer, byteLength }: Uint8Array): void {
  // A chunk may be a view of memory that is shared.
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}

const jsonType = /^application\/(?:json|[\w.-]+\+json)$/;

export const isJsonType = (type: string): boolean => jsonType.test(type);

/** JSON is always UTF-8 (RFC 8259, section 8.1). @throws Problem `unsupported_media_type`. */
function checkType(headers: Headers): void {
  const type = readMediaType(headers);
  if (!isJsonType(type)) throw new Problem("unsupported_media_type", "Send the body as application/json.");
}

/** The type without its parameters. @throws Problem `unsupported_media_type` for another charset, or an encoding. */
function readMediaType(headers: Headers): string {
  const refuse = (detail: string) => {
    throw new Problem("unsupported_media_type", detail);
  };
  const [type = "", ...parameters] = (headers.get("content-type") ?? "").toLowerCase().split(";");
  const charset = parameters.map((part) => part.trim()).find((part) => part.startsWith("charset="));
  if (charset !== undefined && !/^charset="?utf-?8"?$/.test(charset)) refuse("Send the body in UTF-8.");
  const encoding = headers.get("content-encoding")?.trim().toLowerCase() ?? "identity";
  if (encoding !== "identity") refuse("Send the body without Content-Encoding.");
  return type.trim();
}

/**
 * Reads at most `bytesMax` bytes.
 * @param onBytes called with the body's known size: first with `Content-Length`, before reading, then whenever more bytes
 * arrive. To refuse the body, it returns a promise that rejects when the refusal should be sent; the rest of the body is dropped.
 * @throws Problem `too_large`, `malformed`; the refusal.
 */
export async function receiveBody(
  request: Request,
  bytesMax: number,
  onBytes: (bytes: number) => Promise<never> | undefined,
): Promise<ReceivedBody> {
  const tooLarge = () => new Problem("too_large", `The request body is too large: the limit is ${bytesMax} bytes.`);
  const announcedBytes = Number(request.headers.get("content-length") ?? 0) || 0;
  const chunks: Uint8Array[] = [];
  if (!request.body) return { chunks, bytes: 0 };
  if (announcedBytes > bytesMax) {
    await drop(request.body);
    throw tooLarge();
  }
  let bytes = 0;
  let refusal = onBytes(announcedBytes);
  if (refusal) await drop(request.body);
  else {
    try {
      for await (const chunk of request.body) {
        bytes += chunk.byteLength;
        if (bytes > bytesMax) throw tooLarge();
        if (bytes > announcedBytes) refusal = onBytes(bytes);
        if (refusal) break;
        chunks.push(chunk);
      }
    } catch (error) {
      if (error instanceof Problem) throw error;
      throw new Problem("malformed", "The connection ended before the whole request body arrived.");
    }
  }
  if (refusal) await refusal;
  return { chunks, bytes };
}

/** Discards the unread body of a request. */
export function dropUnread({ body }: Request): undefined {
  if (body && !body.locked) void drop(body);
}

/** Without it, Bun would keep buffering a body that nothing reads. */
async function drop(body: ReadableStream): Promise<void> {
  await body.cancel().catch(() => {});
}

/** @throws Problem `malformed`. */
function decode(bytes: Uint8Array): { text: string; bytes: Uint8Array } {
  try {
    return { text: new TextDecoder("utf-8", { fatal: true }).decode(bytes), bytes };
  } catch {
    throw new Problem("malformed", "The body is not valid UTF-8.");
  }
}
