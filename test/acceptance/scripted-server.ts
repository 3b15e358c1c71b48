import type { Socket } from "bun";
import { afterTestRun } from "../support/after-test-run.ts";

export type ReceivedRequest = {
  model: string;
  path: string;
  headers: string;
  body: Record<string, unknown>;
  receivedAtMs: number;
};

/** What happens to the connection after the response. `keep` leaves the connection open for the next request. */
type ConnectionEnd = "keep" | "close" | "reset";

/** The raw bytes of a response. Numbers are pauses in milliseconds. */
export type ScriptedResponse = { packets: (string | number)[]; end: ConnectionEnd };

const CRLF = "\r\n";

/** Formats data as a server-sent event. */
const formatEvent = (data: unknown): string => `data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`;

const formatHttpChunk = (text: string): string => `${Buffer.byteLength(text).toString(16)}${CRLF}${text}${CRLF}`;

/** Formats the head of a streamed response. */
const formatStreamHead = (type = "text/event-stream"): string =>
  ["HTTP/1.1 200 OK", `content-type: ${type}`, "transfer-encoding: chunked", "", ""].join(CRLF);

/** Creates a response that streams text in one packet. */
export const createRawStream = (text: string, type?: string): ScriptedResponse => ({
  packets: [`${formatStreamHead(type)}${formatHttpChunk(text)}${formatHttpChunk("")}`],
  end: "keep",
});

/** Creates a response that streams events in one packet. */
export const createStream = (...events: unknown[]): ScriptedResponse =>
  createRawStream(events.map(formatEvent).join(""));

/** Creates a response that streams events and then resets the connection. */
export const createBrokenStream = (...events: unknown[]): ScriptedResponse => ({
  packets: [`${formatStreamHead()}${formatHttpChunk(events.map(formatEvent).join(""))}`],
  end: "reset",
});

/** Creates a response that streams chunks. Numbers are pauses in milliseconds. */
export const createSlowStream = (...chunksAndPauses: (string | number)[]): ScriptedResponse => ({
  packets: [
    formatStreamHead(),
    ...chunksAndPauses.map((step) => (typeof step === "number" ? step : formatHttpChunk(step))),
    formatHttpChunk(""),
  ],
  end: "keep",
});

/** Creates a response that is not streamed. */
export function createResponse(status: number, body: unknown, headers: Record<string, string> = {}): ScriptedResponse {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const fields = { "content-type": "application/json", ...headers, "content-length": String(Buffer.byteLength(text)) };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}`);
  return { packets: [[`HTTP/1.1 ${status} Status`, ...lines, "", text].join(CRLF)], end: "keep" };
}

/** Closes the connection instead of sending a response. */
export const noResponse: ScriptedResponse = { packets: [], end: "close" };

/** Creates the events of a valid Chat Completions answer. */
export const createCompletionChunks = (text: string): unknown[] => [
  { choices: [{ index: 0, delta: { role: "assistant", content: text } }] },
  { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] },
  { choices: [], usage: { prompt_tokens: 10, completion_tokens: 4, total_tokens: 14 } },
  "[DONE]",
];

type Connection = { receivedBytes: Buffer; isBusy: boolean };

export type ScriptedServer = Awaited<ReturnType<typeof startScriptedServer>>;

/**
 * Starts a model server that sends exactly the bytes that a test specifies, even if they are not valid HTTP.
 * @param respondTo Returns the response to a request. `count` is the number of requests for the same model, including
 * this request.
 */
export function startScriptedServer(respondTo: (request: ReceivedRequest, count: number) => ScriptedResponse) {
  const requests: ReceivedRequest[] = [];
  const abortedRequests: ReceivedRequest[] = [];
  const pendingRequests = new Map<Socket<Connection>, ReceivedRequest>();

  async function sendResponse(socket: Socket<Connection>, request: ReceivedRequest): Promise<void> {
    const count = requests.filter(({ model }) => model === request.model).length;
    const { packets, end } = respondTo(request, count);
    pendingRequests.set(socket, request);
    for (const packet of packets) {
      if (typeof packet === "number") await Bun.sleep(packet);
      else socket.write(packet);
      if (!pendingRequests.has(socket)) return;
    }
    pendingRequests.delete(socket);
    socket.data.isBusy = false;
    // The written bytes need time to be sent before the reset.
    if (end === "reset") setTimeout(() => socket.terminate(), 5);
    if (end === "close") socket.end();
    handleNextRequest(socket);
  }

  function handleNextRequest(socket: Socket<Connection>): void {
    const { receivedBytes: received, isBusy } = socket.data;
    const headEnd = received.indexOf(CRLF + CRLF);
    if (isBusy || headEnd < 0) return;
    const headers = received.toString("latin1", 0, headEnd);
    const bodyStart = headEnd + 4;
    const length = Number(/^content-length: *(\d+)/im.exec(headers)?.[1] ?? 0);
    if (received.length < bodyStart + length) return;
    const body = JSON.parse(received.toString("utf8", bodyStart, bodyStart + length)) as Record<string, unknown>;
    socket.data.receivedBytes = received.subarray(bodyStart + length);
    socket.data.isBusy = true;
    const path = headers.split(" ", 2)[1] ?? "";
    const request = { model: String(body.model), path, headers, body, receivedAtMs: performance.now() };
    requests.push(request);
    void sendResponse(socket, request);
  }

  const server = Bun.listen<Connection>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(socket) {
        socket.data = { receivedBytes: Buffer.alloc(0), isBusy: false };
      },
      data(socket, bytes) {
        socket.data.receivedBytes = Buffer.concat([socket.data.receivedBytes, bytes]);
        handleNextRequest(socket);
      },
      close(socket) {
        const request = pendingRequests.get(socket);
        if (request) abortedRequests.push(request);
        pendingRequests.delete(socket);
      },
    },
  });
  const stop = () => server.stop(true);
  afterTestRun(stop);
  const url = `http://127.0.0.1:${server.port}`;
  return {
    /** The value for `OPENAI_BASE_URL` and `COMPATIBLE_BASE_URL`. */
    openaiUrl: `${url}/v1`,
    /** The value for `ANTHROPIC_BASE_URL`. */
    anthropicUrl: url,
    requests,
    /** The requests whose connection Parley closed before the end of the response. */
    abortedRequests,
    listRequests: (model: string) => requests.filter((request) => request.model === model),
    stop,
  };
}
