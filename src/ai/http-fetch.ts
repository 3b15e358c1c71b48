import http from "node:http";
import https from "node:https";

/** Longer than every watchdog of the chain: those decide, and not the SDK, whose timeout ends with the headers. */
export const SDK_TIMEOUT_MS = 3_600_000;

/** Bytes of an answer that is read only to say in the log what went wrong. */
const ERROR_BODY_BYTES_MAX = 64 * 1024;

/** Connections that wait for the next request, per server; beyond that they are closed after use. */
const IDLE_CONNECTIONS_MAX = 256;

const agentOptions = { keepAlive: true, maxSockets: Number.POSITIVE_INFINITY, maxFreeSockets: IDLE_CONNECTIONS_MAX };
const httpAgent = new http.Agent(agentOptions);
const httpsAgent = new https.Agent(agentOptions);

/**
 * `fetch` for the SDKs, over node:http. Bun's own `fetch` runs at most 256 requests at once in the whole process and
 * lets all others wait, unless told otherwise by the environment before it starts: that would bound the answers of an
 * instance, and let the watchdog blame a model for our own queue. Redirects are not followed, and error answers are cut
 * to ERROR_BODY_BYTES_MAX, which the SDKs would read without end.
 */
export async function httpFetch(input: string | URL | Request, init: RequestInit = {}): Promise<Response> {
  const url = new URL(input instanceof Request ? input.url : input);
  const { signal, body } = init;
  const headers = new Headers(init.headers);
  if (body !== null && body !== undefined && typeof body !== "string") throw new TypeError("Only text can be sent.");
  const { message, abort } = await send({ url, method: init.method ?? "GET", headers, body: body ?? "", signal });
  const status = message.statusCode ?? 0;
  const received = new Headers();
  for (const [name, value] of Object.entries(message.headers))
    if (value !== undefined) received.set(name, Array.isArray(value) ? value.join(", ") : value);
  const stream = createBody(message, abort);
  if (status >= 200 && status <= 299 && status !== 204) return new Response(stream, { status, headers: received });
  const start = await readStart(stream);
  // A Response knows no status below 200 and takes no body with some.
  return new Response(status === 204 || status === 304 ? null : start, {
    status: status < 200 ? 502 : status,
    headers: received,
  });
}

type Sending = { url: URL; method: string; headers: Headers; body: string; signal: AbortSignal | null | undefined };
type Answered = { message: http.IncomingMessage; abort: () => void };

function send(sending: Sending): Promise<Answered> {
  const { url, method, headers, body, signal } = sending;
  return new Promise((resolve, reject) => {
    const isSecure = url.protocol === "https:";
    const request = (isSecure ? https : http).request(url, {
      method,
      headers: { ...headers.toJSON(), "content-length": Buffer.byteLength(body) },
      agent: isSecure ? httpsAgent : httpAgent,
    });
    let isAnswered = false;
    const abort = () => void request.destroy();
    const onAbort = () => {
      abort();
      reject(signal?.reason);
    };
    request.on("response", (message) => {
      isAnswered = true;
      message.once("close", () => signal?.removeEventListener("abort", onAbort));
      resolve({ message, abort });
    });
    // Stays for the whole life of the request: an error without a listener would end the process.
    request.on("error", (error) => {
      signal?.removeEventListener("abort", onAbort);
      // The server closed a waiting connection at the very moment of its reuse: that is no failure of the model.
      if (request.reusedSocket && !isAnswered && !signal?.aborted) resolve(send(sending));
      else reject(error);
    });
    if (signal?.aborted) return onAbort();
    signal?.addEventListener("abort", onAbort, { once: true });
    request.end(body);
  });
}

function createBody(message: http.IncomingMessage, abort: () => void): ReadableStream<Uint8Array> {
  let isOver = false;
  return new ReadableStream<Uint8Array>({
    start(controller) {
      const end = (error: Error | null) => {
        if (isOver) return;
        isOver = true;
        if (error) controller.error(error);
        else controller.close();
      };
      message.on("data", (chunk: Uint8Array) => {
        if (isOver) return;
        controller.enqueue(chunk);
        if ((controller.desiredSize ?? 0) <= 0) message.pause();
      });
      message.on("end", () => end(message.complete ? null : new Error("the connection broke")));
      message.on("error", end);
      message.on("close", () => end(new Error("the connection broke")));
    },
    pull: () => void message.resume(),
    cancel() {
      isOver = true;
      abort();
    },
  });
}

/** The first bytes of a body, up to ERROR_BODY_BYTES_MAX and one packet; the rest is not fetched. */
export async function readStart(body: ReadableStream<Uint8Array>): Promise<Blob> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let bytes = 0;
  const reader = body.getReader();
  while (bytes < ERROR_BODY_BYTES_MAX) {
    const { done, value } = await reader.read();
    if (done) return new Blob(chunks);
    chunks.push(new Uint8Array(value));
    bytes += value.byteLength;
  }
  reader.cancel().catch(() => {});
  return new Blob(chunks);
}
