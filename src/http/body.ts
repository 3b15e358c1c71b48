import { parseJson } from "../lib/json.ts";
import { Problem } from "../lib/problem.ts";
import { isOpenAiPath } from "./openai-error.ts";

/** Maximum body size on routes that accept large bodies. Larger bodies are rejected with 413. */
export const BODY_BYTES_MAX = 1024 * 1024;
/** Maximum body size on all other routes. */
export const SMALL_BODY_BYTES_MAX = 64 * 1024;

type ReceivedBody = { chunks: Uint8Array[]; bytes: number };

/** A decoded body. `type` is lowercase, has no parameters, and is empty if there is no `Content-Type`. */
export type RawBody = { text: string; bytes: Uint8Array; type: string };

const rawBodies = new WeakMap<Request, RawBody>();

/** Returns a request's body, for handlers that parse the body themselves (`rawBody`). */
export const getRawBody = (request: Request): RawBody =>
  rawBodies.get(request) ?? { ...decodeUtf8(new Uint8Array()), type: "" };

/** Stores a body for `getRawBody`. @throws Problem `unsupported_media_type`, `malformed` (invalid UTF-8). */
export function storeRawBody(request: Request, { chunks }: ReceivedBody): void {
  const type = parseMediaType(request.headers);
  rawBodies.set(request, { ...decodeUtf8(Buffer.concat(chunks)), type });
}

/**
 * Parses a JSON body in place of Elysia. Rejects invalid UTF-8 and text that Postgres can't store. Normalizes strings to NFC,
 * except on `/v1`, where models receive them unchanged.
 * @returns null if there is no body. If the route requires one, its schema rejects null.
 * @throws Problem `unsupported_media_type`, `malformed`.
 */
export function parseBody({ chunks, bytes }: ReceivedBody, headers: Headers, path: string): unknown {
  if (bytes === 0) return null;
  requireJsonType(headers);
  const [firstChunk] = chunks;
  const joinedBytes = firstChunk && chunks.length === 1 ? firstChunk : Buffer.concat(chunks);
  const { text } = decodeUtf8(joinedBytes);
  // The request object refers to the chunks, so they would otherwise stay in memory until the response is sent.
  if (bytes > SMALL_BODY_BYTES_MAX) for (const part of new Set([...chunks, joinedBytes])) freeMemory(part);
  chunks.length = 0;
  return parseJson(text, { skipNormalization: isOpenAiPath(path) });
}

/** Frees memory without waiting for the garbage collector, which rarely collects objects as old as a queued body. */
function freeMemory({ buffer, byteLength }: Uint8Array): void {
  // A chunk may be a view of a shared buffer.
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}

const jsonType = /^application\/(?:json|[\w.-]+\+json)$/;

export const isJsonType = (type: string): boolean => jsonType.test(type);

/** @throws Problem `unsupported_media_type` if the body isn't JSON. */
function requireJsonType(headers: Headers): void {
  const type = parseMediaType(headers);
  if (!isJsonType(type)) throw new Problem("unsupported_media_type", "Send the body as application/json.");
}

/** Returns the media type without its parameters. @throws Problem `unsupported_media_type` unless it is plain UTF-8. */
function parseMediaType(headers: Headers): string {
  const fail = (detail: string) => {
    throw new Problem("unsupported_media_type", detail);
  };
  const [type = "", ...parameters] = (headers.get("content-type") ?? "").toLowerCase().split(";");
  const charset = parameters.map((part) => part.trim()).find((part) => part.startsWith("charset="));
  if (charset !== undefined && !/^charset="?utf-?8"?$/.test(charset)) fail("Send the body in UTF-8.");
  const encoding = headers.get("content-encoding")?.trim().toLowerCase() ?? "identity";
  if (encoding !== "identity") fail("Send the body without Content-Encoding.");
  return type.trim();
}

/**
 * Receives a body of at most `bytesMax` bytes.
 * @param onBytes called with the body's known size: first with the `Content-Length`, then with the received size whenever that is
 * larger. To reject the body, it returns a promise that rejects with the error. The rest of the body is then discarded.
 * @throws Problem `too_large`, `malformed`, or the error from `onBytes`.
 */
export async function receiveBody(
  request: Request,
  bytesMax: number,
  onBytes: (bytes: number) => Promise<never> | undefined,
): Promise<ReceivedBody> {
  const createTooLargeError = () =>
    new Problem("too_large", `The request body is too large: the limit is ${bytesMax} bytes.`);
  const contentLength = Number(request.headers.get("content-length") ?? 0) || 0;
  const chunks: Uint8Array[] = [];
  if (!request.body) return { chunks, bytes: 0 };
  if (contentLength > bytesMax) {
    await discardBody(request.body);
    throw createTooLargeError();
  }
  let bytes = 0;
  let rejection = onBytes(contentLength);
  if (rejection) await discardBody(request.body);
  else {
    try {
      for await (const chunk of request.body) {
        bytes += chunk.byteLength;
        if (bytes > bytesMax) throw createTooLargeError();
        if (bytes > contentLength) rejection = onBytes(bytes);
        if (rejection) break;
        chunks.push(chunk);
      }
    } catch (error) {
      if (error instanceof Problem) throw error;
      throw new Problem("malformed", "The connection ended before the whole request body arrived.");
    }
  }
  if (rejection) await rejection;
  return { chunks, bytes };
}

/** Discards a request's unread body. */
export function discardUnread({ body }: Request): undefined {
  if (body && !body.locked) void discardBody(body);
}

/** Discards a body. Otherwise, Bun would buffer it. */
async function discardBody(body: ReadableStream): Promise<void> {
  await body.cancel().catch(() => {});
}

/** @throws Problem `malformed`. */
function decodeUtf8(bytes: Uint8Array): { text: string; bytes: Uint8Array } {
  try {
    return { text: new TextDecoder("utf-8", { fatal: true }).decode(bytes), bytes };
  } catch {
    throw new Problem("malformed", "The body is not valid UTF-8.");
  }
}
