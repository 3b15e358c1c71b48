import { type IncomingResponse, type PreparedRequest, prepareRequest, sendRequest } from "../transport/client.ts";
import { readStart } from "../transport/read-start.ts";

/** Longer than every watchdog of the chain, which alone decides; the SDKs tell it to the provider. */
export const SDK_TIMEOUT_MS = 3_600_000;

type SdkFetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

/** Has an SDK ask for a stream, over this `fetch`; what it asks does not matter. */
export type SdkCall = (fetch: SdkFetch) => Promise<unknown>;

/** Asks a provider. @throws the SDK's errors. What is thrown after the signal has aborted is nobody's. */
export type SendBody = (body: object, signal: AbortSignal) => Promise<IncomingResponse>;

/**
 * Asks as the SDK would. It makes one request, the first time, which is not sent but recorded: its address and header
 * fields serve every answer, because making them anew takes the SDK longer than our own client takes for all the rest. A
 * failure is replayed to the SDK, so that its errors are its own.
 */
export function createSendBody(call: SdkCall): SendBody {
  let prepared: Promise<PreparedRequest> | undefined;
  return async (body, signal) => {
    prepared ??= recordRequest(call).catch((error) => {
      prepared = undefined;
      throw error;
    });
    const request = await prepared;
    let replay: SdkFetch;
    try {
      const response = await sendRequest(request, JSON.stringify(body), signal);
      const { status, headers } = response;
      if (status >= 200 && status <= 299) return response;
      // The SDK would read it without end. A Response takes no body with 304.
      const start = status === 304 ? null : await readStart(response.body);
      replay = async () => new Response(start, { status, headers });
    } catch (error) {
      if (signal.aborted) throw error;
      replay = () => Promise.reject(error);
    }
    await call(replay);
    throw new Error("the SDK took a failure for an answer");
  };
}

async function recordRequest(call: SdkCall): Promise<PreparedRequest> {
  const recorded: PreparedRequest[] = [];
  await call(async (input, { method = "GET", headers } = {}) => {
    const url = new URL(input instanceof Request ? input.url : input);
    recorded.push(prepareRequest({ url, method, headers: new Headers(headers) }));
    return new Response();
  });
  const [prepared] = recorded;
  if (!prepared) throw new Error("the SDK made no request");
  return prepared;
}
