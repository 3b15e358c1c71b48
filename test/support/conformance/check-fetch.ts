import { checkEventsWhenRead } from "./check-events.ts";
import { type BodyCheck, checkResponse } from "./check-response.ts";

/** Maximum size of a body that is checked before the test reads it. Larger bodies are checked while the test reads them. */
const READ_AHEAD_BYTES_MAX = 4 * 1024 * 1024;

/** Only Parley sends all of these headers. The fake servers in the tests don't. */
const isFromParley = ({ headers }: Response) =>
  headers.has("x-request-id") && headers.has("permissions-policy") && headers.has("cross-origin-opener-policy");

/** Replaces `fetch` so that it checks every response from Parley against the OpenAPI document. */
export function checkFetchResponses(): void {
  const originalFetch = globalThis.fetch;
  const checkedFetch = async (input: Parameters<typeof fetch>[0], init?: RequestInit): Promise<Response> => {
    const response = await originalFetch(input, init);
    if (!isFromParley(response)) return response;
    const method = init?.method ?? (input instanceof Request ? input.method : "GET");
    const { pathname } = new URL(response.url || (input instanceof Request ? input.url : String(input)));
    const check = checkResponse({
      method: method.toUpperCase(),
      path: pathname,
      status: response.status,
      contentType: response.headers.get("content-type"),
    });
    // The test decompresses the body itself, so it can't be checked here.
    const isEncoded = (init as { decompress?: boolean } | undefined)?.decompress === false;
    return check === null || isEncoded ? response : checkBody(response, check);
  };
  globalThis.fetch = Object.assign(checkedFetch, originalFetch) as typeof fetch;
}

async function checkBody(response: Response, check: NonNullable<BodyCheck>): Promise<Response> {
  if (check.kind === "stream")
    return response.body ? replaceBody(response, checkEventsWhenRead(response.body, check.check)) : response;
  const bytes = Number(response.headers.get("content-length") ?? Number.NaN);
  if (!(bytes <= READ_AHEAD_BYTES_MAX)) return checkWhenRead(response, check);
  const body = await response.arrayBuffer();
  check.check(new TextDecoder().decode(body));
  return replaceBody(response, body);
}

/** Returns a copy of the response with a new body. The body must have the same content as the original. */
function replaceBody(response: Response, body: ArrayBuffer | ReadableStream<Uint8Array>): Response {
  const { status, statusText, headers, url, redirected } = response;
  const newResponse = new Response(body, { status, statusText, headers });
  return Object.defineProperties(newResponse, { url: { value: url }, redirected: { value: redirected } });
}

/** Checks a JSON body when the test reads it. */
function checkWhenRead(response: Response, { check }: NonNullable<BodyCheck>): Response {
  const readOriginalText = response.text.bind(response);
  const readText = async () => {
    const text = await readOriginalText();
    check(text);
    return text;
  };
  return Object.assign(response, { text: readText, json: async () => JSON.parse(await readText()) });
}
