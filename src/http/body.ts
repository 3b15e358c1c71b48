import { Elysia } from "elysia";
import { parseJson } from "../lib/json.ts";
import { Problem } from "../lib/problem.ts";

/** Bytes of a request body; more is answered 413. */
export const BODY_BYTES_MAX = 1024 * 1024;

/**
 * Reads bodies in place of the framework: JSON only, valid UTF-8 only, never more than the limit is read, and what
 * cannot be stored is refused before a handler sees it.
 */
export const jsonBody = new Elysia({ name: "json-body" }).onParse({ as: "global" }, async ({ request }) => {
  const text = await readText(request);
  // Runs for every POST, PUT, PATCH and DELETE, also of routes that take no body; where one is needed, the schema says so.
  if (text === "") return null;
  const type = request.headers.get("content-type")?.split(";", 1)[0]?.trim().toLowerCase() ?? "";
  if (type !== "application/json" && !/^application\/[\w.-]+\+json$/.test(type))
    throw new Problem("unsupported_media_type", "Send the body as application/json.");
  return parseJson(text);
});

async function readText(request: Request): Promise<string> {
  const tooLarge = () => new Problem("too_large", `A body may have ${BODY_BYTES_MAX} bytes.`);
  if (Number(request.headers.get("content-length") ?? 0) > BODY_BYTES_MAX) throw tooLarge();
  if (!request.body) return "";
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of request.body) {
    bytes += chunk.byteLength;
    if (bytes > BODY_BYTES_MAX) throw tooLarge();
    chunks.push(chunk);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
  } catch {
    throw new Problem("malformed", "The body is not valid UTF-8.");
  }
}
