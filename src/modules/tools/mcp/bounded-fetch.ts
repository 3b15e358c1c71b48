import { AsyncLocalStorage } from "node:async_hooks";
import type { Fetch } from "../../../lib/outgoing/create-fetch.ts";
import { ToolError } from "../model.ts";
import { RESPONSE_BYTES_MAX } from "./limits.ts";

/** The tool call that a request belongs to. */
type CallContext = {
  /** Aborted when the response is no longer needed. */
  signal: AbortSignal;
  /** Fails the call immediately. When an event stream breaks, the MCP client would otherwise wait for its timeout. */
  fail(error: Error): void;
};

/** Links the MCP client's calls to their HTTP requests. */
const callContexts = new AsyncLocalStorage<CallContext>();

/**
 * Runs a call of the MCP client, and aborts the call's remaining requests when it finishes. Rejects as soon as a response is too
 * large.
 */
export async function runInCallContext<T>(work: () => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const { promise: failure, reject } = Promise.withResolvers<never>();
  failure.catch(() => {});
  try {
    return await Promise.race([callContexts.run({ signal: controller.signal, fail: reject }, work), failure]);
  } finally {
    controller.abort();
  }
}

type Options = {
  fetch: Fetch;
  /** Timeout of a request, including its response. */
  timeoutMs: number;
  /** Whether the client may open the long-lived stream on which a server announces changes. */
  allowStreams: boolean;
  /** Creates the headers of a request. If this throws, the request fails with the same error. */
  createHeaders(): Promise<Record<string, string>> | Record<string, string>;
};

/** Creates a fetch function for the MCP client. It adds Parley's headers, and limits the duration and size of responses. */
export function createBoundedFetch({ fetch, timeoutMs, allowStreams, createHeaders }: Options): Fetch {
  return async (url, init = {}) => {
    const headers = new Headers(init.headers);
    const isStream = init.method === "GET" || headers.get("mcp-method") === "subscriptions/listen";
    // With 405, the MCP client assumes that the server doesn't offer such a stream.
    if (isStream && !allowStreams) return new Response(null, { status: 405 });
    for (const [name, value] of Object.entries(await createHeaders())) headers.set(name, value);
    const context = isRequest(init.body) ? callContexts.getStore() : undefined;
    const signals = [init.signal, context?.signal, isStream ? null : AbortSignal.timeout(timeoutMs)];
    const signal = AbortSignal.any(signals.filter((candidate) => candidate instanceof AbortSignal));
    const response = await fetch(url, { ...init, headers, signal });
    return limitBody(response, (error) => context?.fail(error));
  };
}

/**
 * Returns whether a body is a request. Otherwise it is a notification, for example about a canceled call. Notifications have no
 * response, and may be sent after their call has finished.
 */
function isRequest(body: unknown): boolean {
  if (typeof body !== "string") return false;
  const message = JSON.parse(body) as { id?: unknown } | null;
  return message?.id !== undefined;
}

function limitBody(response: Response, fail: (error: Error) => void): Response {
  if (response.body === null) return response;
  let bytes = 0;
  const byteCounter = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      bytes += chunk.byteLength;
      if (bytes <= RESPONSE_BYTES_MAX) return controller.enqueue(chunk);
      const error = new ToolError(`The result is larger than ${RESPONSE_BYTES_MAX / 1024 / 1024} MiB.`);
      controller.error(error);
      fail(error);
    },
  });
  const { status, statusText, headers } = response;
  return new Response(response.body.pipeThrough(byteCounter), { status, statusText, headers });
}
