import type { Socket } from "bun";
import { atEndOfRun } from "../support/end-of-run.ts";

/** A received request. */
export type SeenRequest = { model: string; path: string; headers: string; body: Record<string, unknown>; atMs: number };

/** What happens to the connection after the reply. `keep` leaves it open for the next request. */
type Ending = "keep" | "close" | "reset";

/** A reply in raw bytes. Numbers are pauses in milliseconds; the rest is sent without delay. */
export type Reply = { packets: (string | number)[]; end: Ending };

const CRLF = "\r\n";

/** Formats data as a server-sent event. Strings are used as they are. */
const formatEvent = (data: unknown): string => `data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`;

const chunk = (text: string): string => `${Buffer.byteLength(text).toString(16)}${CRLF}${text}${CRLF}`;

/** The head of a streamed response. */
const streamHead = (type = "text/event-stream"): string =>
  ["HTTP/1.1 200 OK", `content-type: ${type}`, "transfer-encoding: chunked", "", ""].join(CRLF);

/** A complete stream of raw text in one packet, on a connection that stays open. */
export const rawStream = (text: string, type?: string): Reply => ({
  packets: [`${streamHead(type)}${chunk(text)}${chunk("")}`],
  end: "keep",
});

/** A complete stream of events in one packet. */
export const stream = (...events: unknown[]): Reply => rawStream(events.map(formatEvent).join(""));

/** Events, then the connection is reset. */
export const brokenStream = (...events: unknown[]): Reply => ({
  packets: [`${streamHead()}${chunk(events.map(formatEvent).join(""))}`],
  end: "reset",
});

/** A stream of texts and pauses in milliseconds. */
export const slowStream = (...steps: (string | number)[]): Reply => ({
  packets: [streamHead(), ...steps.map((step) => (typeof step === "number" ? step : chunk(step))), chunk("")],
  end: "keep",
});

/** A response with a body, not streamed. */
export function whole(status: number, body: unknown, headers: Record<string, string> = {}): Reply {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const fields = { "content-type": "application/json", ...headers, "content-length": String(Buffer.byteLength(text)) };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}`);
  return { packets: [[`HTTP/1.1 ${status} Status`, ...lines, "", text].join(CRLF)], end: "keep" };
}

/** No response: the connection is closed. */
export const nothing: Reply = { packets: [], end: "close" };

/** The events of a well-formed Chat Completions answer. */
export const completionChunks = (text: string): unknown[] => [
  { choices: [{ index: 0, delta: { role: "assistant", content: text } }] },
  { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] },
  { choices: [], usage: { prompt_tokens: 10, completion_tokens: 4, total_tokens: 14 } },
  "[DONE]",
];

type Connection = { received: Buffer; isBusy: boolean };

export type ScriptedServer = Awaited<ReturnType<typeof startScriptedServer>>;

/**
 * A model server that sends exactly the bytes that a test specifies, including ones that no HTTP library would write.
 * @param replyTo returns the reply to a request; `count` is the number of requests for its model so far, from 1.
 */
export function startScriptedServer(replyTo: (request: SeenRequest, count: number) => Reply) {
  const requests: SeenRequest[] = [];
  const aborted: SeenRequest[] = [];
  const running = new Map<Socket<Connection>, SeenRequest>();

  async function answer(socket: Socket<Connection>, request: SeenRequest): Promise<void> {
    const count = requests.filter(({ model }) => model === request.model).length;
    const { packets, end } = replyTo(request, count);
    running.set(socket, request);
    for (const packet of packets) {
      if (typeof packet === "number") await Bun.sleep(packet);
      else socket.write(packet);
      if (!running.has(socket)) return;
    }
    running.delete(socket);
    socket.data.isBusy = false;
    // The written bytes must be sent before the reset.
    if (end === "reset") setTimeout(() => socket.terminate(), 5);
    if (end === "close") socket.end();
    takeRequest(socket);
  }

  function takeRequest(socket: Socket<Connection>): void {
    const { received, isBusy } = socket.data;
    const headEnd = received.indexOf(CRLF + CRLF);
    if (isBusy || headEnd < 0) return;
    const headers = received.toString("latin1", 0, headEnd);
    const bodyStart = headEnd + 4;
    const length = Number(/^content-length: *(\d+)/im.exec(headers)?.[1] ?? 0);
    if (received.length < bodyStart + length) return;
    const body = JSON.parse(received.toString("utf8", bodyStart, bodyStart + length)) as Record<string, unknown>;
    socket.data.received = received.subarray(bodyStart + length);
    socket.data.isBusy = true;
    const path = headers.split(" ", 2)[1] ?? "";
    const request = { model: String(body.model), path, headers, body, atMs: performance.now() };
    requests.push(request);
    void answer(socket, request);
  }

  const server = Bun.listen<Connection>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(socket) {
        socket.data = { received: Buffer.alloc(0), isBusy: false };
      },
      data(socket, bytes) {
        socket.data.received = Buffer.concat([socket.data.received, bytes]);
        takeRequest(socket);
      },
      close(socket) {
        const request = running.get(socket);
        if (request) aborted.push(request);
        running.delete(socket);
      },
    },
  });
  const stop = () => server.stop(true);
  atEndOfRun(stop);
  const url = `http://127.0.0.1:${server.port}`;
  return {
    /** For `OPENAI_BASE_URL` and `COMPATIBLE_BASE_URL`; Anthropic's URL has no `/v1`. */
    openaiUrl: `${url}/v1`,
    anthropicUrl: url,
    requests,
    /** Requests whose connection Parley closed before the reply was complete. */
    aborted,
    requestsOf: (model: string) => requests.filter((request) => request.model === model),
    stop,
  };
}
