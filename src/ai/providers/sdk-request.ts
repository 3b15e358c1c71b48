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

/** Longer than every watchdog of the chain, which alone decides; the SDKs tell it to the provider. */
export const SDK_TIMEOUT_MS = 3_600_000;

type SdkFetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

/** Has an SDK ask for a stream, over this `fetch`; what it asks does not matter. */
export type SdkCall = (fetch: SdkFetch) => Promise<unknown>;

/** A response that is a success, at least by its status. */
export type SuccessfulResponse = IncomingResponse & {
  /**
   * Asks once more, without the parameter that is refused in its body.
   * @param refusal the error, as the text of a body. @returns null if it is about none that can be left out.
   */
  retryWithout(refusal: string): Promise<SuccessfulResponse> | null;
};

/**
 * What to send after a refusal that concerns no single parameter, but the thinking in the request, or what is missing of it.
 * Null: the refusal stands. It is asked for once for each request.
 */
type Mend = (refusal: string) => object | null;

/** Asks a provider. @throws the SDK's errors. What is thrown after the signal has aborted is nobody's. */
export type SendBody = (
  body: object,
  signal: AbortSignal,
  onBytes?: () => void,
  mend?: Mend,
) => Promise<SuccessfulResponse>;

/** What came back. `start` is the beginning of a failure's body, which the SDK would read without end. */
type Taken = { response: IncomingResponse; start: Blob | null };

/**
 * Asks as the SDK would. It makes one request, the first time, which is not sent but recorded: its address and header
 * fields serve every answer, because making them anew takes the SDK longer than our own client takes for all the rest. A
 * failure is replayed to the SDK, so that its errors are its own.
 * @param adapter changes requests into what their model takes, also after a refusal.
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
  return (body, signal, onBytes, mend) => {
    const adaptation = addMend(adapter, adapter.begin({ ...body }), mend);
    return send(adaptation, adaptation.body, { signal, onRepeat, onBytes });
  };
}

/** An adaptation that asks `mend` first. The parameters of what that gives are adapted in turn. */
function addMend(adapter: ParameterAdapter, first: Adaptation, mend: Mend | undefined): Adaptation {
  if (!mend) return first;
  let adaptation = first;
  let isMended = false;
  return {
    body: first.body,
    retry(status, text) {
      const mended = isMended || !isRefusal(status) ? null : mend(text);
      if (!mended) return adaptation.retry(status, text);
      isMended = true;
      adaptation = adapter.begin({ ...mended });
      return adaptation.body;
    },
  };
}

const BAD_REQUEST = 400;

const isSuccess = (status: number): boolean => status >= 200 && status <= 299;

/** Asks, beginning with this body; after a refusal of a parameter once more, without it. */
async function sendAdapted(
  request: PreparedRequest,
  adaptation: Adaptation,
  first: Body,
  options: SendOptions,
): Promise<Taken> {
  for (let body = first; ; ) {
    const response = await sendRequest(request, JSON.stringify(body), options);
    const { status } = response;
    // A Response takes no body with 304.
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
