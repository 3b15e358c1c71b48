import { type IncomingResponse, type SendOptions, sendRequest } from "../../lib/http-client/client.ts";
import { type PreparedRequest, prepareRequest } from "../../lib/http-client/prepared-request.ts";
import { type FindProxy, noProxy } from "../../lib/outgoing/find-proxy.ts";
import { readStart } from "../transport/read-start.ts";
import { storeErrorBody } from "./error-body.ts";
import { type Adaptation, canRejectParameter, type ParameterAdapter } from "./parameters/adapter.ts";
import type { Body } from "./parameters/optional.ts";
import { createRedirectError, isRedirect } from "./redirect.ts";
import type { RequestObserver } from "./request-observer.ts";
import { UnexpectedResponseError } from "./unexpected-response.ts";

/** Timeout in the SDK. It is longer than all timeouts of the watchdog, so it never applies. */
export const SDK_TIMEOUT_MS = 3_600_000;

type SdkFetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

/** Makes an SDK call with this `fetch`. The request's body doesn't matter. */
export type SdkCall = (fetch: SdkFetch) => Promise<unknown>;

/** A response with a success status. */
export type SuccessfulResponse = IncomingResponse & {
  /**
   * Repeats the request without the rejected parameter. @param errorText an error that was found in the response's body.
   * @returns null if the error isn't about an optional parameter.
   */
  retryWithoutParameter(errorText: string): Promise<SuccessfulResponse> | null;
};

/**
 * Returns the body to send after the provider rejected the thinking blocks in the request, or null if the error is about something else.
 * Called at most once per request.
 */
type Rewrite = (errorText: string) => object | null;

/** Sends a request to a provider. @throws the SDK's errors. */
export type SendBody = (
  body: object,
  signal: AbortSignal,
  onBytes?: () => void,
  rewrite?: Rewrite,
) => Promise<SuccessfulResponse>;

/** A response, and the start of its body if the request failed. The SDK would read the body without a limit. */
type ReceivedResponse = { response: IncomingResponse; bodyStart: Blob | null };

/**
 * Returns a function that sends requests as the SDK would. The SDK creates only one request, which is recorded rather than
 * sent. The recorded URL and headers are reused for all requests, because the SDK needs more time to create them than Parley
 * needs for the rest of a request. A failed response is replayed to the SDK, which then throws its own error.
 */
export function createSendBody(
  call: SdkCall,
  adapter: ParameterAdapter,
  { onRepeat, findProxy = noProxy }: Pick<RequestObserver, "onRepeat"> & { findProxy?: FindProxy | undefined } = {},
): SendBody {
  let prepared: Promise<PreparedRequest> | undefined;
  async function send(adaptation: Adaptation, body: Body, options: SendOptions): Promise<SuccessfulResponse> {
    prepared ??= recordRequest(call, findProxy).catch((error) => {
      prepared = undefined;
      throw error;
    });
    const request = await prepared;
    let replay: SdkFetch;
    let text = "";
    try {
      const { response, bodyStart } = await sendAdapted(request, adaptation, body, options);
      const { status, headers } = response;
      if (isSuccess(status)) return { ...response, retryWithoutParameter };
      if (isRedirect(status)) throw createRedirectError(request.url, response);
      text = (await bodyStart?.text()) ?? "";
      replay = async () => new Response(bodyStart, { status, headers });
    } catch (error) {
      if (options.signal?.aborted || error instanceof UnexpectedResponseError) throw error;
      replay = () => Promise.reject(error);
    }
    try {
      await call(replay);
    } catch (error) {
      storeErrorBody(error, text);
      throw error;
    }
    throw new Error("the SDK accepted a failed response");

    function retryWithoutParameter(errorText: string) {
      const changed = adaptation.adaptBody(BAD_REQUEST, errorText);
      return changed && send(adaptation, changed, options);
    }
  }
  return (body, signal, onBytes, rewrite) => {
    const adaptation = addRewrite(adapter, adapter.begin({ ...body }), rewrite);
    return send(adaptation, adaptation.body, { signal, onRepeat, onBytes });
  };
}

/** Returns an adaptation that first tries `rewrite`. The rewritten body is then adapted too. */
function addRewrite(adapter: ParameterAdapter, first: Adaptation, rewrite: Rewrite | undefined): Adaptation {
  if (!rewrite) return first;
  let adaptation = first;
  let isRewritten = false;
  return {
    body: first.body,
    adaptBody(status, text) {
      const rewritten = isRewritten || !canRejectParameter(status) ? null : rewrite(text);
      if (!rewritten) return adaptation.adaptBody(status, text);
      isRewritten = true;
      adaptation = adapter.begin({ ...rewritten });
      return adaptation.body;
    },
  };
}

const BAD_REQUEST = 400;

const isSuccess = (status: number): boolean => status >= 200 && status <= 299;

/** Sends a body. If a parameter is rejected, sends the body again without it. */
async function sendAdapted(
  request: PreparedRequest,
  adaptation: Adaptation,
  first: Body,
  options: SendOptions,
): Promise<ReceivedResponse> {
  for (let body = first; ; ) {
    const response = await sendRequest(request, JSON.stringify(body), options);
    const { status } = response;
    // A `Response` with status 304 can't have a body.
    if (isSuccess(status) || isRedirect(status) || status === 304) return { response, bodyStart: null };
    const bodyStart = await readStart(response.body);
    const changed = adaptation.adaptBody(status, canRejectParameter(status) ? await bodyStart.text() : "");
    if (changed === null) return { response, bodyStart };
    body = changed;
  }
}

async function recordRequest(call: SdkCall, findProxy: FindProxy): Promise<PreparedRequest> {
  const recorded: PreparedRequest[] = [];
  await call(async (input, { method = "GET", headers } = {}) => {
    const url = new URL(input instanceof Request ? input.url : input);
    recorded.push(prepareRequest({ url, method, headers: new Headers(headers), proxy: findProxy(url) }));
    return new Response();
  });
  const [prepared] = recorded;
  if (!prepared) throw new Error("the SDK made no request");
  return prepared;
}
