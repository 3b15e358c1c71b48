import { type IncomingResponse, type SendOptions, sendRequest } from "../../lib/http-client/client.ts";
import { type PreparedRequest, prepareRequest } from "../../lib/http-client/prepared-request.ts";
import { type FindProxy, noProxy } from "../../lib/outgoing/find-proxy.ts";
import { readBodyStart } from "../transport/read-start.ts";
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
   * Sends the request again without the rejected parameter.
   * @param errorText an error that was found in the response's body.
   * @returns null if the error isn't about an optional parameter.
   */
  retryWithoutParameter(errorText: string): Promise<SuccessfulResponse> | null;
};

/**
 * Returns the body to send after the provider rejected the thinking blocks in the request. Returns null if the error is about
 * something else. Called at most once per request.
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
export function createBodySender(
  callSdk: SdkCall,
  adapter: ParameterAdapter,
  { onResend, findProxy = noProxy }: Pick<RequestObserver, "onResend"> & { findProxy?: FindProxy | undefined } = {},
): SendBody {
  let preparedRequest: Promise<PreparedRequest> | undefined;
  async function send(adaptation: Adaptation, body: Body, options: SendOptions): Promise<SuccessfulResponse> {
    preparedRequest ??= recordRequest(callSdk, findProxy).catch((error) => {
      preparedRequest = undefined;
      throw error;
    });
    const request = await preparedRequest;
    let replayFetch: SdkFetch;
    let errorBody = "";
    try {
      const { response, bodyStart } = await sendAdapted(request, adaptation, body, options);
      const { status, headers } = response;
      if (isSuccess(status)) return { ...response, retryWithoutParameter };
      if (isRedirect(status)) throw createRedirectError(request.url, response);
      errorBody = (await bodyStart?.text()) ?? "";
      replayFetch = async () => new Response(bodyStart, { status, headers });
    } catch (error) {
      if (options.signal?.aborted || error instanceof UnexpectedResponseError) throw error;
      replayFetch = () => Promise.reject(error);
    }
    try {
      await callSdk(replayFetch);
    } catch (error) {
      storeErrorBody(error, errorBody);
      throw error;
    }
    throw new Error("the SDK accepted a failed response");

    function retryWithoutParameter(errorText: string) {
      const changedBody = adaptation.adaptBody(BAD_REQUEST, errorText);
      return changedBody && send(adaptation, changedBody, options);
    }
  }
  return (body, signal, onBytes, rewrite) => {
    const adaptation = addRewrite(adapter, adapter.startAdaptation({ ...body }), rewrite);
    return send(adaptation, adaptation.body, { signal, onResend, onBytes });
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
      adaptation = adapter.startAdaptation({ ...rewritten });
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
  firstBody: Body,
  options: SendOptions,
): Promise<ReceivedResponse> {
  for (let body = firstBody; ; ) {
    const response = await sendRequest(request, JSON.stringify(body), options);
    const { status } = response;
    // A `Response` with status 304 can't have a body.
    if (isSuccess(status) || isRedirect(status) || status === 304) return { response, bodyStart: null };
    const bodyStart = await readBodyStart(response.body);
    const changedBody = adaptation.adaptBody(status, canRejectParameter(status) ? await bodyStart.text() : "");
    if (changedBody === null) return { response, bodyStart };
    body = changedBody;
  }
}

async function recordRequest(call: SdkCall, findProxy: FindProxy): Promise<PreparedRequest> {
  const recordedRequests: PreparedRequest[] = [];
  await call(async (input, { method = "GET", headers } = {}) => {
    const url = new URL(input instanceof Request ? input.url : input);
    recordedRequests.push(prepareRequest({ url, method, headers: new Headers(headers), proxy: findProxy(url) }));
    return new Response();
  });
  const [prepared] = recordedRequests;
  if (!prepared) throw new Error("the SDK made no request");
  return prepared;
}
