import { type BodyCheck, checkResponse } from "./check-response.ts";
import { tapEvents } from "./tap-events.ts";

/** Larger bodies are checked while the test reads them, as are those of unknown length. */
const READ_AHEAD_BYTES_MAX = 4 * 1024 * 1024;

/** Headers that only Parley sends together; fake servers in the tests send others. */
const isParley = ({ headers }: Response) =>
  headers.has("x-request-id") && headers.has("permissions-policy") && headers.has("cross-origin-opener-policy");

/** Makes `fetch` check every response of a Parley against the OpenAPI document. */
export function tapFetch(): void {
  const untapped = globalThis.fetch;
  const tapped = async (input: Parameters<typeof fetch>[0], init?: RequestInit): Promise<Response> => {
    const response = await untapped(input, init);
    if (!isParley(response)) return response;
    const method = init?.method ?? (input instanceof Request ? input.method : "GET");
    const { pathname } = new URL(response.url || (input instanceof Request ? input.url : String(input)));
    const check = checkResponse({
      method: method.toUpperCase(),
      path: pathname,
      status: response.status,
      contentType: response.headers.get("content-type"),
    });
    // A body that the caller decodes itself stays unchanged.
    const isEncoded = (init as { decompress?: boolean } | undefined)?.decompress === false;
    return check === null || isEncoded ? response : checkBody(response, check);
  };
  globalThis.fetch = Object.assign(tapped, untapped) as typeof fetch;
}

async function checkBody(response: Response, check: NonNullable<BodyCheck>): Promise<Response> {
  if (check.kind === "stream")
    return response.body ? replaceBody(response, tapEvents(response.body, check.check)) : response;
  const bytes = Number(response.headers.get("content-length") ?? Number.NaN);
  if (!(bytes <= READ_AHEAD_BYTES_MAX)) return checkWhenRead(response, check);
  const body = await response.arrayBuffer();
  check.check(new TextDecoder().decode(body));
  return replaceBody(response, body);
}

/** The response with another body of the same content. */
function replaceBody(response: Response, body: ArrayBuffer | ReadableStream<Uint8Array>): Response {
  const { status, statusText, headers, url, redirected } = response;
  const replaced = new Response(body, { status, statusText, headers });
  return Object.defineProperties(replaced, { url: { value: url }, redirected: { value: redirected } });
}

/** Streamed JSON, whose end only the test reaches. */
function checkWhenRead(response: Response, { check }: NonNullable<BodyCheck>): Response {
  const text = response.text.bind(response);
  const read = async () => {
    const whole = await text();
    check(whole);
    return whole;
  };
  return Object.assign(response, { text: read, json: async () => JSON.parse(await read()) });
}
