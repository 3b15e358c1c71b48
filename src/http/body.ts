import { parseJson } from "../lib/json.ts";
import { Problem } from "../lib/problem.ts";
import { isOpenAiPath } from "./openai-error.ts";

/** Bytes of the body of a route that takes large ones; more is answered 413. */
export const BODY_BYTES_MAX = 1024 * 1024;
/** The same for all other routes. */
export const SMALL_BODY_BYTES_MAX = 64 * 1024;

/** The bytes of a body, as they came. */
type ReceivedBody = { chunks: Uint8Array[]; bytes: number };

/** A body as it came; `type` in small letters, without parameters, and empty where none was named. */
export type RawBody = { text: string; bytes: Uint8Array; type: string };

const rawBodies = new WeakMap<Request, RawBody>();

/** For handlers of routes that read their body themselves (`rawBody`): the body of this request. */
export const getRawBody = (request: Request): RawBody =>
  rawBodies.get(request) ?? { ...decode(new Uint8Array()), type: "" };

/** Keeps a body for `getRawBody`. @throws Problem `unsupported_media_type`, `malformed` (no UTF-8). */
export function keepRawBody(request: Request, { chunks }: ReceivedBody): void {
  const type = readMediaType(request.headers);
  rawBodies.set(request, { ...decode(Buffer.concat(chunks)), type });
}

/**
 * Parses a body in place of the framework: JSON only, valid UTF-8 only. What cannot be stored is refused before a handler
 * sees it, and texts come in NFC; only what is passed on to models is left as it is.
 * @returns null where there is none; where one is needed, the schema says so.
 * @throws Problem `unsupported_media_type`, `malformed`.
 */
export function parseBody({ chunks, bytes }: ReceivedBody, headers: Headers, path: string): unknown {
  if (bytes === 0) return null;
  checkType(headers);
  const [first] = chunks;
  const whole = first && chunks.length === 1 ? first : Buffer.concat(chunks);
  const { text } = decode(whole);
  // Nobody needs the bytes any more; the request itself stays for as long as its answer takes.
  if (bytes > SMALL_BODY_BYTES_MAX) for (const part of new Set([...chunks, whole])) free(part);
  chunks.length = 0;
  return parseJson(text, { keepsForm: isOpenAiPath(path) });
}

/** Gives the memory back at once: what waited for its turn is old, and garbage that is old is collected late. */
function free({ buffer, byteLength }: Uint8Array): void {
  // A chunk may be a part of memory that others use.
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}

const jsonType = /^application\/(?:json|[\w.-]+\+json)$/;

export const isJsonType = (type: string): boolean => jsonType.test(type);

/** JSON is UTF-8 whatever else is said (RFC 8259, section 8.1). @throws Problem `unsupported_media_type`. */
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
 * Never reads more than `bytesMax`.
 * @param onBytes called with how many bytes there are, as far as is known: before any are read, with what the client has
 * announced, and whenever there are more. A promise is a refusal: it fails when it is to be told, and the body is dropped.
 * @throws Problem `too_large`, `malformed`; the refusal.
 */
export async function receiveBody(
  request: Request,
  bytesMax: number,
  onBytes: (bytes: number) => Promise<never> | undefined,
): Promise<ReceivedBody> {
  const tooLarge = () => new Problem("too_large", `The body of this request may have ${bytesMax} bytes.`);
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
      throw new Problem("malformed", "The body could not be read to its end.");
    }
  }
  if (refusal) await refusal;
  return { chunks, bytes };
}

/** Discards the unread body of a request. */
export function dropUnread({ body }: Request): undefined {
  if (body && !body.locked) void drop(body);
}

/** Otherwise the runtime would keep what comes, though nobody is going to read it. */
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
