import { connect } from "node:net";
import { checkResponse } from "./conformance/check-response.ts";

/** An incomplete response is returned as it is after this time. */
const TIMEOUT_MS = 2_000;

export type RawResponse = {
  /** 0 if there is none. */
  status: number;
  /** Lower-case names. */
  headers: Record<string, string>;
  body: string;
  text: string;
};

/** Sends bytes that no HTTP library would send. The request should have `Connection: close`. */
export function sendRaw(url: string, request: string | Uint8Array): Promise<RawResponse> {
  const { hostname, port } = new URL(url);
  const { promise, resolve } = Promise.withResolvers<RawResponse>();
  const socket = connect(Number(port), hostname);
  let text = "";
  const end = () => {
    clearTimeout(timer);
    socket.destroy();
    const answer = readAnswer(text);
    checkRaw(request, answer);
    resolve(answer);
  };
  const timer = setTimeout(end, TIMEOUT_MS);
  socket.on("data", (bytes) => {
    text += bytes.toString();
    // From here on it is another protocol.
    if (text.startsWith("HTTP/1.1 101 ")) end();
  });
  socket.on("close", end);
  socket.on("error", end);
  socket.write(request);
  return promise;
}

/** Checks the response if the request has a method and a path, and the response is whole. */
function checkRaw(request: string | Uint8Array, { status, headers, body }: RawResponse): void {
  const line = /^([A-Z]+) (\/[^\s?#]*)\S* HTTP\/1\.1\r\n/.exec(Buffer.from(request).toString("latin1"));
  if (!line || status === 101 || headers["x-request-id"] === undefined) return;
  const [, method = "", path = ""] = line;
  const check = checkResponse({ method, path, status, contentType: headers["content-type"] ?? null });
  if (check?.kind === "json" && Number(headers["content-length"]) === Buffer.byteLength(body)) check.check(body);
}

function readAnswer(text: string): RawResponse {
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
