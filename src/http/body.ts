import { parseJson } from "../lib/json.ts";
import { Problem } from "../lib/problem.ts";
import { isOpenAiPath } from "./openai-error.ts";

/** Bytes of a request body; more is answered 413. */
export const BODY_BYTES_MAX = 1024 * 1024;

/** The bytes of a body, as they came. */
type ReceivedBody = { chunks: Uint8Array[]; bytes: number };

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
  const text = decode(first && chunks.length === 1 ? first : Buffer.concat(chunks));
  // Nobody needs the bytes any more; the request itself stays for as long as its answer takes.
  chunks.length = 0;
  return parseJson(text, { keepsForm: isOpenAiPath(path) });
}

const jsonType = /^application\/(?:json|[\w.-]+\+json)$/;

/** JSON is UTF-8 whatever else is said (RFC 8259, section 8.1). @throws Problem `unsupported_media_type`. */
function checkType(headers: Headers): void {
  const refuse = (detail: string) => {
    throw new Problem("unsupported_media_type", detail);
  };
  const [type = "", ...parameters] = (headers.get("content-type") ?? "").toLowerCase().split(";");
  if (!jsonType.test(type.trim())) refuse("Send the body as application/json.");
  const charset = parameters.map((part) => part.trim()).find((part) => part.startsWith("charset="));
  if (charset !== undefined && !/^charset="?utf-?8"?$/.test(charset)) refuse("Send the body in UTF-8.");
  const encoding = headers.get("content-encoding")?.trim().toLowerCase() ?? "identity";
  if (encoding !== "identity") refuse("Send the body without Content-Encoding.");
}

/** Never reads more than the limit. @throws Problem `too_large`, `malformed`. */
export async function receiveBody(request: Request): Promise<ReceivedBody> {
  const tooLarge = () => new Problem("too_large", `A body may have ${BODY_BYTES_MAX} bytes.`);
  if (Number(request.headers.get("content-length") ?? 0) > BODY_BYTES_MAX) throw tooLarge();
  const chunks: Uint8Array[] = [];
  if (!request.body) return { chunks, bytes: 0 };
  let bytes = 0;
  try {
    for await (const chunk of request.body) {
      bytes += chunk.byteLength;
      if (bytes > BODY_BYTES_MAX) throw tooLarge();
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw new Problem("malformed", "The body could not be read to its end.");
  }
  return { chunks, bytes };
}

/** @throws Problem `malformed`. */
function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Problem("malformed", "The body is not valid UTF-8.");
  }
}
