/** A response as stored for replay. */
export type StoredAnswer = { status: number; headers: Record<string, string>; body: Uint8Array };

/** Headers that belong to the content; the others (request id, limits, security) are set for each request. */
const storedHeaders = ["content-type", "location", "etag", "cache-control", "link"];

type ResponseSettings = { headers: Record<string, string | number | undefined>; status?: number | string | undefined };

/** Turns a handler's return value into a response, as Elysia would. */
export function createResponse(value: unknown, set: ResponseSettings): Response {
  if (value instanceof Response) return value;
  const status = Number(set.status ?? 200);
  if (value === undefined || value === null) return new Response(null, { status });
  return typeof value === "string" ? new Response(value, { status }) : Response.json(value, { status });
}

/** Reads a response completely. */
export async function readAnswer(response: Response, set: ResponseSettings): Promise<StoredAnswer> {
  const headers = storedHeaders.flatMap((name) => {
    const value = response.headers.get(name) ?? set.headers[name];
    return value === undefined ? [] : [[name, String(value)]];
  });
  const body = new Uint8Array(await response.arrayBuffer());
  return { status: response.status, headers: Object.fromEntries(headers), body };
}

export function restoreAnswer({ status, headers, body }: StoredAnswer, further: Record<string, string> = {}): Response {
  return new Response(body.length === 0 ? null : body, { status, headers: { ...headers, ...further } });
}

const NEWLINE = 10;

/** One line of JSON with status and headers, then the raw body. */
export function encodeAnswer({ status, headers, body }: StoredAnswer): Buffer {
  return Buffer.concat([Buffer.from(`${JSON.stringify({ status, headers })}\n`), body]);
}

export function decodeAnswer(bytes: Buffer): StoredAnswer {
  const end = bytes.indexOf(NEWLINE);
  const head = JSON.parse(bytes.toString("utf8", 0, end)) as Omit<StoredAnswer, "body">;
  return { ...head, body: bytes.subarray(end + 1) };
}
