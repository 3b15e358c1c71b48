import { type IncomingResponse, type SendOptions, sendRequest } from "../../lib/http-client/client.ts";
import { type PreparedRequest, prepareRequest } from "../../lib/http-client/prepared-request.ts";
import { type FindProxy, noProxy } from "../../lib/outgoing/find-proxy.ts";
import { readStart } from "../transport/read-start.ts";
import { keepErrorBody } from "./error-body.ts";
import { type Adaptation, isRefusal, type ParameterAdapter } from "./parameters/adapter.ts";
import type { Body } from "./parameters/optional.ts";
import { isRedirect, refuseRedirect } from "./redirect.ts";
import type { RequestObserver } from "./request-observer.ts";
import { UnexpectedAnswerError } from "./unexpected-answer.ts";

/** Longer than every timeout of the watchdog, which alone decides. The SDKs send it to the provider. */
export const SDK_TIMEOUT_MS = 3_600_000;

type SdkFetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

/** Makes an SDK request a stream over this `fetch`; the content doesn't matter. */
export type SdkCall = (fetch: SdkFetch) => Promise<unknown>;

/** A response with a success status. */
export type SuccessfulResponse = IncomingResponse & {
  /**
   * Repeats the request without the parameter that the response's body rejects.
   * @param refusal the error, as a body text. @returns null if it isn't about an optional parameter.
   */
  retryWithout(refusal: string): Promise<SuccessfulResponse> | null;
};

/**
 * Returns what to send after an error that is about the thinking in the request, or missing thinking, rather than a
 * parameter. Null: the error is returned. Called once per request.
 */
type Rewrite = (refusal: string) => object | null;

/** Sends a request to a provider. @throws the SDK's errors. Errors after the signal has aborted are ignored. */
export type SendBody = (
  body: object,
  signal: AbortSignal,
  onBytes?: () => void,
  rewrite?: Rewrite,
) => Promise<SuccessfulResponse>;

/** A response. `start` is the beginning of a failure's body, which the SDK would read without a limit. */
type ReadResponse = { response: IncomingResponse; start: Blob | null };

/**
 * Sends requests as the SDK would. The SDK makes one request, which is recorded instead of sent: its URL and headers serve
 * every answer, because creating them takes the SDK longer than everything else takes Parley's client. A failure is replayed
 * to the SDK, so that its own error is thrown.
 * @param adapter adapts requests to their model, including after an error.
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
      const { response, start } = await sendAdapted(request, adaptation, body, options);
      const { status, headers } = response;
      if (isSuccess(status)) return { ...response, retryWithout };
      if (isRedirect(status)) throw refuseRedirect(request.url, response);
      text = (await start?.text()) ?? "";
      replay = async () => new Response(start, { status, headers });
    } catch (error) {
      if (options.signal?.aborted || error instanceof UnexpectedAnswerError) throw error;
      replay = () => Promise.reject(error);
    }
    try {
      await call(replay);
    } catch (error) {
      keepErrorBody(error, text);
      throw error;
    }
    throw new Error("the SDK took a failure for an answer");

    function retryWithout(refusal: string) {
      const changed = adaptation.retry(BAD_REQUEST, refusal);
      return changed && send(adaptation, changed, options);
    }
  }
  return (body, signal, onBytes, rewrite) => {
    const adaptation = addRewrite(adapter, adapter.begin({ ...body }), rewrite);
    return send(adaptation, adaptation.body, { signal, onRepeat, onBytes });
  };
}

/** An adaptation that tries `rewrite` first. The parameters of its result are adapted in turn. */
function addRewrite(adapter: ParameterAdapter, first: Adaptation, rewrite: Rewrite | undefined): Adaptation {
  if (!rewrite) return first;
  let adaptation = first;
  let isRewritten = false;
  return {
    body: first.body,
    retry(status, text) {
      const rewritten = isRewritten || !isRefusal(status) ? null : rewrite(text);
      if (!rewritten) return adaptation.retry(status, text);
      isRewritten = true;
      adaptation = adapter.begin({ ...rewritten });
      return adaptation.body;
    },
  };
}

const BAD_REQUEST = 400;

const isSuccess = (status: number): boolean => status >= 200 && status <= 299;

/** Sends this body; if a parameter is rejected, sends it again without it. */
async function sendAdapted(
  request: PreparedRequest,
  adaptation: Adaptation,
  first: Body,
  options: SendOptions,
): Promise<ReadResponse> {
  for (let body = first; ; ) {
    const response = await sendRequest(request, JSON.stringify(body), options);
    const { status } = response;
    // A Response can't have a body with status 304.
    if (isSuccess(status) || isRedirect(status) || status === 304) return { response, start: null };
    const start = await readStart(response.body);
    const changed = adaptation.retry(status, isRefusal(status) ? await start.text() : "");
    if (changed === null) return { response, start };
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
