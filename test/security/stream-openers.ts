import { connect } from "node:net";
import { waitUntil } from "../support/wait-until.ts";
import type { PlannedRequest } from "./requests.ts";

/** How a stream ended, with the first and last text received. */
export type StreamEnd = { status: number; text: string; isComplete: boolean };
export type OpenStream = {
  /** Resolves when the server has ended the stream. */
  ended: Promise<StreamEnd>;
  /** Makes a paused slow reader continue. */
  resume(): void;
  close(): void;
};

const EVENT_STREAM = "text/event-stream";
/** A request that has not ended after this time counts as open. */
const OPEN_MS = 700;
/** A slow reader pauses after this many bytes. */
const HEAD_BYTES = 1_024;

type Server = { url: string };

/** Functions that open a stream, by kind in the OpenAPI document. They throw an error if the request does not stay open. */
export const streamOpeners: Record<
  string,
  (server: Server, request: PlannedRequest, headers: Record<string, string>) => Promise<OpenStream>
> = {
  events: async (server, request, headers) => {
    const json = request.path.startsWith("/v1/") ? { ...(request.json as object), stream: true } : request.json;
    const stream = openStream(server, { ...request, json }, { ...headers, accept: EVENT_STREAM });
    await stream.opened;
    await waitUntil(() => /^HTTP\/1\.1 \d+ /.test(stream.getHead()));
    if (!stream.getHead().includes(EVENT_STREAM)) throw new Error(`No event stream: ${stream.getHead()}`);
    return stream;
  },
  answer: async (server, request, headers) => {
    const stream = openStream(server, request, headers);
    await stream.opened;
    return stream;
  },
  download: async (server, request, headers) => {
    const stream = openStream(server, request, headers, { isSlow: true });
    await stream.opened;
    await waitUntil(() => stream.getHead().length >= HEAD_BYTES);
    if (!/^HTTP\/1\.1 200 [\s\S]*transfer-encoding: chunked/i.test(stream.getHead()))
      throw new Error(`No download: ${stream.getHead()}`);
    return stream;
  },
  upload: async (server, request, headers) => {
    const stream = openStream(server, { ...request, json: undefined }, headers, { uploadStart: "[\n" });
    await stream.opened;
    if (stream.getHead() !== "") throw new Error(`The upload received an early response: ${stream.getHead()}`);
    return stream;
  },
};

/** Sends a request on a separate connection. */
function openStream(
  { url }: Server,
  { method, path, json }: PlannedRequest,
  headers: Record<string, string>,
  { isSlow = false, uploadStart }: { isSlow?: boolean; uploadStart?: string } = {},
) {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  const body = json === undefined ? "" : JSON.stringify(json);
  const { promise: ended, resolve } = Promise.withResolvers<StreamEnd>();
  let text = "";
  let isClosed = false;
  let pausesAfterHead = isSlow;
  const handleClose = () => {
    isClosed = true;
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0);
    const isComplete = /transfer-encoding: chunked/i.test(text) ? text.endsWith("0\r\n\r\n") : true;
    resolve({ status, text: text.slice(0, HEAD_BYTES) + text.slice(HEAD_BYTES).slice(-HEAD_BYTES), isComplete });
  };
  socket.on("data", (bytes) => {
    text += bytes.toString("latin1");
    if (pausesAfterHead && text.length > HEAD_BYTES) socket.pause();
  });
  socket.on("close", handleClose);
  socket.on("error", handleClose);
  const lengthHeader =
    uploadStart === undefined ? `content-length: ${Buffer.byteLength(body)}` : "transfer-encoding: chunked";
  const lines = [
    `${method} ${path} HTTP/1.1`,
    `host: ${hostname}:${port}`,
    "connection: close",
    ...(uploadStart !== undefined || json !== undefined ? ["content-type: application/json", lengthHeader] : []),
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ];
  socket.write(`${lines.join("\r\n")}\r\n\r\n${body}`);
  if (uploadStart !== undefined) socket.write(`${uploadStart.length.toString(16)}\r\n${uploadStart}\r\n`);

  const opened = (async () => {
    await Promise.race([ended, Bun.sleep(OPEN_MS)]);
    if (isClosed) throw new Error(`${method} ${path} did not stay open: ${text.slice(0, HEAD_BYTES)}`);
  })();
  return {
    opened,
    getHead: () => text.slice(0, HEAD_BYTES),
    ended,
    resume(): void {
      pausesAfterHead = false;
      socket.resume();
    },
    close: () => void socket.destroy(),
  };
}
