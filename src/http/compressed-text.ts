import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { computeTag, respondWithTag } from "./etag.ts";

/** Text with its entity tag and its gzip-compressed bytes. */
export type CompressedText = { text: string; tag: string; compressed: Uint8Array<ArrayBuffer> };

/** Compresses text that is sent in many responses. */
export async function createCompressedText(text: string): Promise<CompressedText> {
  return { text, tag: computeTag(text), compressed: await compressGzip(Buffer.from(text)) };
}

/** Responds with the text, compressed if the client accepts gzip, or with 304 if the client already has it. */
export function respondWithText(
  request: Request,
  { text, tag, compressed }: CompressedText,
  headers: Record<string, string>,
): Response {
  const allHeaders = { vary: "Accept-Encoding, Origin", ...headers };
  if (!acceptsGzip(request)) return respondWithTag(request, tag, text, allHeaders);
  // The compressed bytes need a different tag.
  return respondWithTag(request, `${tag}-gzip`, compressed, { ...allHeaders, "content-encoding": "gzip" });
}

/** Compresses bytes without blocking other requests. */
export const compressGzip = async (bytes: Uint8Array<ArrayBuffer>) => new Uint8Array(await promisify(gzip)(bytes));

/** Whether `Accept-Encoding` lists `gzip`, or otherwise `*`, with a weight other than 0 (RFC 9110). */
export function acceptsGzip(request: Request): boolean {
  const codings = (request.headers.get("accept-encoding") ?? "").split(",").map((part) => part.trim().toLowerCase());
  const findCoding = (name: string) => codings.find((coding) => coding.split(";")[0]?.trim() === name);
  const coding = findCoding("gzip") ?? findCoding("*");
  return coding !== undefined && !/;\s*q=0(?:\.0*)?\s*$/.test(coding);
}
