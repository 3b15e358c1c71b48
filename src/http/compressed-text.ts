import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { hashTag, respondWithTag } from "./etag.ts";

/** A text that is sent often, with its tag and its gzip form. */
export type CompressedText = { text: string; tag: string; compressed: Uint8Array<ArrayBuffer> };

/** Compresses a text once, for many responses. */
export async function createCompressedText(text: string): Promise<CompressedText> {
  return { text, tag: hashTag(text), compressed: await compress(Buffer.from(text)) };
}

/** Responds with the text and its `ETag`, compressed if the client accepts gzip, or with 304 if the client has it. */
export function respondWithText(
  request: Request,
  { text, tag, compressed }: CompressedText,
  headers: Record<string, string>,
): Response {
  const all = { vary: "Accept-Encoding, Origin", ...headers };
  if (!acceptsGzip(request)) return respondWithTag(request, tag, text, all);
  // The bytes differ, so the tag must too.
  return respondWithTag(request, `${tag}-gzip`, compressed, { ...all, "content-encoding": "gzip" });
}

/** Compresses bytes without blocking other requests. */
export const compress = async (bytes: Uint8Array<ArrayBuffer>) => new Uint8Array(await promisify(gzip)(bytes));

/** Whether the client accepts gzip (RFC 9110: also through `*`, but not with a quality of 0). */
export function acceptsGzip(request: Request): boolean {
  const codings = (request.headers.get("accept-encoding") ?? "").split(",").map((part) => part.trim().toLowerCase());
  const of = (name: string) => codings.find((coding) => coding.split(";")[0]?.trim() === name);
  const coding = of("gzip") ?? of("*");
  return coding !== undefined && !/;\s*q=0(?:\.0*)?\s*$/.test(coding);
}
