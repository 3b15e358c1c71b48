import { connect } from "node:net";
import { checkResponse } from "./conformance/check-response.ts";

/** Time after which an incomplete response is returned. */
const TIMEOUT_MS = 2_000;

export type RawResponse = {
  /** The HTTP status, or 0 if there was no response. */
  status: number;
  /** The header values by lowercase name. */
  headers: Record<string, string>;
  body: string;
  /** The complete response, including its head. */
  text: string;
};

/** Sends a request that HTTP libraries can't send, such as an invalid one. The request should have `Connection: close`. */
export function sendRaw(url: string, request: string | Uint8Array): Promise<RawResponse> {
  const { hostname, port } = new URL(url);
  const { promise, resolve } = Promise.withResolvers<RawResponse>();
  const socket = connect(Number(port), hostname);
  let text = "";
  const finish = () => {
    clearTimeout(timer);
    socket.destroy();
    const response = parseResponse(text);
    checkRawResponse(request, response);
    resolve(response);
  };
  const timer = setTimeout(finish, TIMEOUT_MS);
  socket.on("data", (bytes) => {
    text += bytes.toString();
    // After status 101, the connection isn't closed, because it is upgraded to a different protocol.
    if (text.startsWith("HTTP/1.1 101 ")) finish();
  });
  socket.on("close", finish);
  socket.on("error", finish);
  socket.write(request);
  return promise;
}

/** Checks the response if it is complete and the request has a valid method and path. */
function checkRawResponse(request: string | Uint8Array, { status, headers, body }: RawResponse): void {
  const line = /^([A-Z]+) (\/[^\s?#]*)\S* HTTP\/1\.1\r\n/.exec(Buffer.from(request).toString("latin1"));
  if (!line || status === 101 || headers["x-request-id"] === undefined) return;
  const [, method = "", path = ""] = line;
  const check = checkResponse({ method, path, status, contentType: headers["content-type"] ?? null });
  if (check?.kind === "json" && Number(headers["content-length"]) === Buffer.byteLength(body)) check.check(body);
}

function parseResponse(text: string): RawResponse {
  const headEnd = text.indexOf("\r\n\r\n");
  const [line = "", ...headerLines] = text.slice(0, Math.max(0, headEnd)).split("\r\n");
  const headers = Object.fromEntries(
    headerLines.map((header) => {
      const colon = header.indexOf(":");
      return [header.slice(0, colon).toLowerCase(), header.slice(colon + 1).trim()];
    }),
  );
  return { status: Number(/^HTTP\/1\.1 (\d{3})/.exec(line)?.[1] ?? 0), headers, body: text.slice(headEnd + 4), text };
}
