import { ProtobufTraceSerializer } from "@opentelemetry/otlp-transformer";
import type { ReadableSpan } from "@opentelemetry/sdk-trace";
import type { Fetch } from "../outgoing/create-fetch.ts";

/** Maximum number of attempts to send a batch. */
const ATTEMPTS_MAX = 3;
/** Maximum delay before the first retry. It doubles with each retry. */
const BACKOFF_BASE_MS = 1_000;
/** Maximum delay that a collector's `Retry-After` can cause. */
const RETRY_AFTER_MS_MAX = 5_000;
/** Maximum size of a collector's response that is read to its end. For larger responses, the connection is closed. */
const SKIPPED_BYTES_MAX = 64 * 1024;
/** The statuses that are retried according to OTLP/HTTP. */
const retryableStatuses = new Set([429, 502, 503, 504]);

type Options = {
  /** The full URL of the collector's trace endpoint. */
  url: string;
  headers: Readonly<Record<string, string>>;
  timeoutMs: number;
  fetch: Fetch;
  /** Called for each batch that couldn't be sent, with a reason that contains no secrets. */
  onFailure(reason: string): void;
};

class CollectorResponseError extends Error {
  constructor(
    readonly status: number,
    readonly retryAfterMs: number,
  ) {
    super(`the collector responded with HTTP ${status}`);
  }
}

/** Creates a function that sends spans over OTLP/HTTP as protobuf, with retries. */
export function createSpanSender({ url, headers, timeoutMs, fetch, onFailure }: Options) {
  async function post(body: Uint8Array<ArrayBuffer>, signal: AbortSignal): Promise<void> {
    const signalWithTimeout = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    const fields = { ...headers, "content-type": "application/x-protobuf" };
    const response = await fetch(url, {
      method: "POST",
      headers: fields,
      body,
      signal: signalWithTimeout,
      redirect: "manual",
    });
    // An interrupted body is ignored, because sending the spans again would duplicate them.
    await skipBody(response).catch(() => {});
    if (response.ok) return;
    const retryAfterMs = Number(response.headers.get("retry-after") ?? 0) * 1_000 || 0;
    throw new CollectorResponseError(response.status, retryAfterMs);
  }

  return async (spans: ReadableSpan[], signal: AbortSignal): Promise<void> => {
    const body = new Uint8Array(ProtobufTraceSerializer.serializeRequest(spans) ?? []);
    for (let attempt = 1; ; attempt += 1) {
      try {
        signal.throwIfAborted();
        return await post(body, signal);
      } catch (error) {
        const isFinal = error instanceof CollectorResponseError && !retryableStatuses.has(error.status);
        if (isFinal || attempt >= ATTEMPTS_MAX || signal.aborted) {
          onFailure(describeError(error));
          throw error;
        }
        const retryAfterMs =
          error instanceof CollectorResponseError ? Math.min(error.retryAfterMs, RETRY_AFTER_MS_MAX) : 0;
        await sleep(Math.max(retryAfterMs, Math.random() * BACKOFF_BASE_MS * 2 ** (attempt - 1)), signal);
      }
    }
  };
}

/** Reads a short body to its end, so that the connection can be reused. If the body is longer, closes the connection. */
async function skipBody({ body }: Response): Promise<void> {
  let receivedBytes = 0;
  for await (const chunk of body ?? []) {
    receivedBytes += chunk.byteLength;
    if (receivedBytes > SKIPPED_BYTES_MAX) return;
  }
}

/** Describes an error for the log. The message of an unknown error may contain secrets, so only its code is logged. */
function describeError(error: unknown): string {
  if (error instanceof CollectorResponseError) return error.message;
  const { code, name = "Error" } = error as { code?: unknown; name?: string };
  if (name === "TimeoutError") return "the collector did not respond in time";
  return `the request failed (${typeof code === "string" ? code : name})`;
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal.addEventListener("abort", finish);
    if (signal.aborted) finish();
  });
}
