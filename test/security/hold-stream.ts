import { connect } from "node:net";
import { waitUntil } from "../support/wait-until.ts";
import type { PlannedRequest } from "./requests.ts";

/** How a stream ended: the last text received, and whether it looked complete. */
export type StreamEnd = { status: number; text: string; isWhole: boolean };
export type HeldStream = {
  /** Resolves when the server has ended it. */
  ended: Promise<StreamEnd>;
  /** Reads the rest, for a slow reader. */
  resume(): void;
  close(): void;
};

const EVENT_STREAM = "text/event-stream";
/** A request that stays open has no response, or no end, after this time. */
const OPEN_MS = 700;
/** A download is read slowly: this much stays in the server. */
const HEAD_BYTES = 1_024;

type Site = { url: string };

/** By the kinds in the document. Each opens a request that stays open. @throws Error if it does not. */
export const openers: Record<
  string,
  (site: Site, request: PlannedRequest, headers: Record<string, string>) => Promise<HeldStream>
> = {
  events: async (site, request, headers) => {
    const json = request.path.startsWith("/v1/") ? { ...(request.json as object), stream: true } : request.json;
    const held = hold(site, { ...request, json }, { ...headers, accept: EVENT_STREAM });
    await held.untilOpen;
    await waitUntil(() => /^HTTP\/1\.1 \d+ /.test(held.readHead()));
    if (!held.readHead().includes(EVENT_STREAM)) throw new Error(`No event stream: ${held.readHead()}`);
    return held;
  },
  answer: async (site, request, headers) => {
    const held = hold(site, request, headers);
    await held.untilOpen;
    return held;
  },
  download: async (site, request, headers) => {
    const held = hold(site, request, headers, { isSlow: true });
    await held.untilOpen;
    await waitUntil(() => held.readHead().length >= HEAD_BYTES);
    if (!/^HTTP\/1\.1 200 [\s\S]*transfer-encoding: chunked/i.test(held.readHead()))
      throw new Error(`No download: ${held.readHead()}`);
    return held;
  },
  upload: async (site, request, headers) => {
    const held = hold(site, { ...request, json: undefined }, headers, { upload: "[\n" });
    await held.untilOpen;
    if (held.readHead() !== "") throw new Error(`The upload got an early response: ${held.readHead()}`);
    return held;
  },
};

/** One request on a separate connection. */
function hold(
  { url }: Site,
  { method, path, json }: PlannedRequest,
  headers: Record<string, string>,
  { isSlow = false, upload }: { isSlow?: boolean; upload?: string } = {},
) {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  const body = json === undefined ? "" : JSON.stringify(json);
  const { promise: ended, resolve } = Promise.withResolvers<StreamEnd>();
  let text = "";
  let isClosed = false;
  let isWaiting = isSlow;
  const end = () => {
    isClosed = true;
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0);
    const isWhole = /transfer-encoding: chunked/i.test(text) ? text.endsWith("0\r\n\r\n") : true;
    resolve({ status, text: text.slice(0, HEAD_BYTES) + text.slice(HEAD_BYTES).slice(-HEAD_BYTES), isWhole });
  };
  socket.on("data", (bytes) => {
    text += bytes.toString("latin1");
    if (isWaiting && text.length > HEAD_BYTES) socket.pause();
  });
  socket.on("close", end);
  socket.on("error", end);
  const size = upload === undefined ? `content-length: ${Buffer.byteLength(body)}` : "transfer-encoding: chunked";
  const lines = [
    `${method} ${path} HTTP/1.1`,
    `host: ${hostname}:${port}`,
    "connection: close",
    ...(upload !== undefined || json !== undefined ? ["content-type: application/json", size] : []),
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ];
  socket.write(`${lines.join("\r\n")}\r\n\r\n${body}`);
  if (upload !== undefined) socket.write(`${upload.length.toString(16)}\r\n${upload}\r\n`);

  const untilOpen = (async () => {
    await Promise.race([ended, Bun.sleep(OPEN_MS)]);
    if (isClosed) throw new Error(`${method} ${path} did not stay open: ${text.slice(0, HEAD_BYTES)}`);
  })();
  return {
    untilOpen,
    readHead: () => text.slice(0, HEAD_BYTES),
    ended,
    resume(): void {
      isWaiting = false;
      socket.resume();
    },
    close: () => void socket.destroy(),
  };
}
