/** A response that is stored to be replayed. */
export type StoredResponse = { status: number; headers: Record<string, string>; body: Uint8Array };

/** The headers that describe the content. All others are set for each request. */
const storedHeaders = ["content-type", "location", "etag", "cache-control", "link"];

type ResponseSettings = { headers: Record<string, string | number | undefined>; status?: number | string | undefined };

/** Converts a handler's return value to a response, as Elysia does. */
export function createResponse(value: unknown, set: ResponseSettings): Response {
  if (value instanceof Response) return value;
  const status = Number(set.status ?? 200);
  if (value === undefined || value === null) return new Response(null, { status });
  return typeof value === "string" ? new Response(value, { status }) : Response.json(value, { status });
}

/** Reads a response completely, including its body. */
export async function bufferResponse(response: Response, set: ResponseSettings): Promise<StoredResponse> {
  const headers = storedHeaders.flatMap((name) => {
    const value = response.headers.get(name) ?? set.headers[name];
    return value === undefined ? [] : [[name, String(value)]];
  });
  const body = new Uint8Array(await response.arrayBuffer());
  return { status: response.status, headers: Object.fromEntries(headers), body };
}

export function restoreResponse(
  { status, headers, body }: StoredResponse,
  extraHeaders: Record<string, string> = {},
): Response {
  return new Response(body.length === 0 ? null : body, { status, headers: { ...headers, ...extraHeaders } });
}

const NEWLINE = 10;

/** Encodes a response as one line of JSON with the status and headers, followed by the body. */
export function encodeResponse({ status, headers, body }: StoredResponse): Buffer {
  return Buffer.concat([Buffer.from(`${JSON.stringify({ status, headers })}\n`), body]);
}

export function decodeResponse(bytes: Buffer): StoredResponse {
  const headEnd = bytes.indexOf(NEWLINE);
  const head = JSON.parse(bytes.toString("utf8", 0, headEnd)) as Omit<StoredResponse, "body">;
  return { ...head, body: bytes.subarray(headEnd + 1) };
}
