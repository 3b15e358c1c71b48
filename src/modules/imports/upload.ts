import { Busboy, type BusboyHeaders } from "@fastify/busboy";
import { isJsonType } from "../../http/body.ts";
import { createInvalidProblem, Problem } from "../../lib/problem.ts";

/** Maximum size of a form's other fields and boundaries. */
const FORM_OVERHEAD_BYTES_MAX = 64 * 1024;
const FILE_FIELD = "file";
const FORM_LIMITS = { files: 5, fields: 20, parts: 25, fieldSize: 1_024, headerPairs: 20 };

const FORM_TYPE = "multipart/form-data";
/** Media types of a file sent as the request body. The actual format is detected from its content. */
const FILE_TYPES = new Set(["application/zip", "application/x-zip-compressed", "application/octet-stream"]);

/**
 * Streams the uploaded file, from the form field `file` or the request body, with backpressure.
 * @param bytesMax the maximum size of the file.
 * @param signal aborts the upload. Its abort reason is then thrown.
 * @throws Problem `unsupported_media_type`, `too_large`, `malformed` (truncated), `invalid` (a form without a file).
 */
export async function* readUpload(request: Request, bytesMax: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const { body } = request;
  try {
    checkHeaders(request.headers, bytesMax);
    if (!body) throw new Problem("malformed", "The body is empty. Send the export's file.");
    const chunks = limitBytes(readBody(body, signal), bytesMax);
    const isForm = getMediaType(request.headers) === FORM_TYPE;
    yield* isForm ? readForm(chunks, request.headers) : chunks;
  } catch (error) {
    // Bun buffers a body that is neither read nor canceled.
    if (body && !body.locked) await body.cancel().catch(() => {});
    throw error;
  }
}

const getMediaType = (headers: Headers): string =>
  (headers.get("content-type") ?? "").split(";")[0]?.trim().toLowerCase() ?? "";

function checkHeaders(headers: Headers, bytesMax: number): void {
  const encoding = headers.get("content-encoding")?.trim().toLowerCase() ?? "identity";
  if (encoding !== "identity")
    throw new Problem("unsupported_media_type", "Send the file without Content-Encoding. A ZIP archive is fine.");
  const type = getMediaType(headers);
  if (type !== FORM_TYPE && !isJsonType(type) && !FILE_TYPES.has(type))
    throw new Problem(
      "unsupported_media_type",
      `Send the file as ${FORM_TYPE} in the field ${FILE_FIELD}, or as the body with the type application/json or application/zip.`,
    );
  if ((Number(headers.get("content-length")) || 0) > bytesMax + FORM_OVERHEAD_BYTES_MAX)
    throw createTooLargeError(bytesMax);
}

const createTooLargeError = (bytesMax: number) =>
  new Problem("too_large", `The file is larger than ${bytesMax} bytes (IMPORT_BYTES_MAX).`);

async function* readBody(body: ReadableStream<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  // Cancels the read, because the client may not send data for a long time.
  const cancel = () => void reader.cancel().catch(() => {});
  signal.addEventListener("abort", cancel, { once: true });
  try {
    for (;;) {
      signal.throwIfAborted();
      const { value, done } = await reader.read().catch(() => {
        throw createIncompleteError();
      });
      signal.throwIfAborted();
      if (done) return;
      yield value;
    }
  } finally {
    signal.removeEventListener("abort", cancel);
    await reader.cancel().catch(() => {});
    reader.releaseLock();
  }
}

const createIncompleteError = () => new Problem("malformed", "The request body is incomplete. Send the file again.");

async function* limitBytes(chunks: AsyncIterable<Uint8Array>, bytesMax: number): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.byteLength;
    if (bytes > bytesMax + FORM_OVERHEAD_BYTES_MAX) throw createTooLargeError(bytesMax);
    yield chunk;
  }
}

async function* readForm(chunks: AsyncIterable<Uint8Array>, headers: Headers): AsyncGenerator<Uint8Array> {
  const form = createFormParser(headers);
  for await (const chunk of chunks) {
    await form.write(chunk);
    yield* form.drainFileChunks();
  }
  await form.end();
  yield* form.drainFileChunks();
  if (!form.hasFile()) throw createInvalidProblem("#/file", `The form has no file in the field ${FILE_FIELD}.`);
}

function createFormParser(headers: Headers) {
  const fileChunks: Uint8Array[] = [];
  let hasFile = false;
  let parser: InstanceType<typeof Busboy>;
  try {
    parser = new Busboy({ headers: Object.fromEntries(headers) as BusboyHeaders, limits: FORM_LIMITS });
  } catch {
    throw new Problem("malformed", "The Content-Type of the form has no boundary.");
  }
  const { promise: finished, resolve, reject } = Promise.withResolvers<void>();
  const rejectAsIncomplete = () => reject(createIncompleteError());
  // Prevents an unhandled rejection. `write` and `end` report the error.
  finished.catch(() => {});
  parser.on("error", rejectAsIncomplete);
  parser.on("finish", () => resolve());
  parser.on("file", (field, stream) => {
    const isFileField = field === FILE_FIELD && !hasFile;
    hasFile ||= isFileField;
    stream.on("error", rejectAsIncomplete);
    if (!isFileField) return void stream.resume();
    stream.on("data", (chunk: Uint8Array) => fileChunks.push(chunk));
    return undefined;
  });

  return {
    write: (chunk: Uint8Array): Promise<void> =>
      Promise.race([finished, new Promise<void>((done) => parser.write(chunk, () => done()))]),
    async end(): Promise<void> {
      parser.end();
      await finished;
    },
    /** Removes and returns the buffered chunks of the file. */
    drainFileChunks: () => fileChunks.splice(0),
    hasFile: () => hasFile,
  };
}
