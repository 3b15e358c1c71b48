import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { PauseSignal } from "../../src/ai/pause-signal.ts";
import type { Provider, ProviderError, ProviderRequest } from "../../src/ai/provider.ts";
import { mapToMessagesRequest } from "../../src/ai/providers/anthropic/map-messages.ts";
import { createAnthropicClient, createAnthropicProvider } from "../../src/ai/providers/anthropic/provider.ts";
import { mapToChatRequest } from "../../src/ai/providers/compatible/map-chat-completions.ts";
import { createCompatibleProvider } from "../../src/ai/providers/compatible/provider.ts";
import { mapToResponsesRequest } from "../../src/ai/providers/openai/map-responses.ts";
import { createOpenAiClient, createOpenAiProvider } from "../../src/ai/providers/openai/provider.ts";
import { TEST_KEY } from "./collect.ts";

type ReceivedRequest = { line: string; headers: Record<string, string>; body: string };

const receivedRequests: ReceivedRequest[] = [];
/** Creates the server's response. */
let respond: () => Response;
let server: ReturnType<typeof Bun.serve>;
let disconnectCount = 0;

const createEmptyStream = () => new Response("", { headers: { "content-type": "text/event-stream" } });

beforeAll(() => {
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch(request) {
      request.signal.addEventListener("abort", () => {
        disconnectCount += 1;
      });
      const { pathname, search } = new URL(request.url);
      const headers = Object.fromEntries(request.headers);
      receivedRequests.push({ line: `${request.method} ${pathname}${search}`, headers, body: await request.text() });
      return respond();
    },
  });
  respond = createEmptyStream;
});
afterEach(() => {
  receivedRequests.length = 0;
  respond = createEmptyStream;
});
afterAll(() => server.stop(true));

const createRequest = (content: string): ProviderRequest => ({
  model: "model",
  messages: [
    { role: "system", content: "Be brief." },
    { role: "user", content },
  ],
  partial: null,
  outputTokensMax: 77,
  canThink: false,
  options: { temperature: 0.5 },
  signal: new AbortController().signal,
  pause: new PauseSignal(),
});

type Client = {
  name: string;
  createProvider(baseUrl: string): Provider;
  /** Sends the same request with the SDK and the runtime's `fetch`. */
  sendWithSdk(baseUrl: string, request: ProviderRequest): Promise<Response>;
};

const createCompatibleClient = (apiKey: string | undefined): Omit<Client, "name"> => ({
  createProvider: (baseUrl) => createCompatibleProvider({ apiKey, baseUrl }),
  sendWithSdk: (baseUrl, request) =>
    createOpenAiClient(apiKey ?? "none", baseUrl, fetch)
      .chat.completions.create(
        mapToChatRequest(request, "compatible"),
        apiKey === undefined ? { headers: { Authorization: null } } : {},
      )
      .asResponse(),
});

const clients: Client[] = [
  {
    name: "openai",
    createProvider: (baseUrl) => createOpenAiProvider({ apiKey: TEST_KEY, baseUrl }),
    sendWithSdk: (baseUrl, request) =>
      createOpenAiClient(TEST_KEY, baseUrl, fetch)
        .responses.create(mapToResponsesRequest(request, "openai"))
        .asResponse(),
  },
  {
    name: "anthropic",
    createProvider: (baseUrl) => createAnthropicProvider({ apiKey: TEST_KEY, baseUrl }),
    sendWithSdk: (baseUrl, request) =>
      createAnthropicClient(TEST_KEY, baseUrl, fetch)
        .messages.create(mapToMessagesRequest(request, "anthropic"))
        .asResponse(),
  },
  { name: "compatible with a key", ...createCompatibleClient(TEST_KEY) },
  { name: "compatible without a key", ...createCompatibleClient(undefined) },
];

/** Redirects, each with the target that is logged. */
const redirects: [status: number, location: string | null, target: string][] = [
  [301, "https://other.example/v2/models", "https://other.example/v2/models"],
  [302, "/login?next=secret#secret", "[server]/login"],
  [303, "../relative", "[server]/relative"],
  [307, "https://user:secret@other.example:8443/", "https://other.example:8443/"],
  [308, "//other.example/x", "http://other.example/x"],
  [300, null, "an invalid address"],
  [302, "http://[", "an invalid address"],
  [302, "data:text/plain,secret", "an address with data:"],
  [302, `https://other.example/${TEST_KEY}/v1`, "https://other.example/[key]/v1"],
];

/** Sends a request and returns its error. An empty stream is an error too. */
async function sendAndGetError(provider: Provider, request: ProviderRequest): Promise<ProviderError> {
  const end = await provider.stream(request, () => {});
  if (end.type === "error") return end.error;
  throw new Error("no failure");
}

/** Removes the headers that come from the transport, not from the SDK. */
function removeTransportHeaders({ headers, ...rest }: ReceivedRequest): ReceivedRequest {
  const { "accept-encoding": _coding, connection: _connection, ...sdkHeaders } = headers;
  return { ...rest, headers: sdkHeaders };
}

describe.each(clients)("$name", ({ name, createProvider, sendWithSdk }) => {
  // A query in the base URL is part of the SDK's request.
  test.each(["/v1", "/gateway/v1?region=north"])("sends the same requests to %s as its SDK", async (path) => {
    const baseUrl = new URL(path, server.url).href;
    const provider = createProvider(baseUrl);
    for (const content of ["What is Parley?", "Grüße, 世界 🚀", "a lone \ud83d surrogate"]) {
      const request = createRequest(content);
      await sendAndGetError(provider, request);
      await sendWithSdk(baseUrl, request);
      const [ownRequest, sdkRequest] = receivedRequests.splice(0);
      if (!ownRequest || !sdkRequest) throw new Error("expected two requests");
      expect(removeTransportHeaders(ownRequest)).toEqual(removeTransportHeaders(sdkRequest));
      expect(ownRequest.headers).toMatchObject({ "accept-encoding": "identity", connection: "keep-alive" });
      expect(ownRequest.headers["content-length"]).toBe(String(Buffer.byteLength(ownRequest.body)));
      expect(JSON.stringify(ownRequest.headers).includes(TEST_KEY)).toBe(name !== "compatible without a key");
      expect(Object.keys(ownRequest.headers).includes("authorization")).toBe(
        Object.keys(sdkRequest.headers).includes("authorization"),
      );
    }
  });

  test("sends concurrent requests with different bodies", async () => {
    const provider = createProvider(server.url.href);
    const contents = Array.from({ length: 20 }, (_, index) => `Question ${"ä".repeat(index)}.`);
    await Promise.all(contents.map((content) => sendAndGetError(provider, createRequest(content))));
    for (const content of contents)
      expect(receivedRequests.filter(({ body }) => body.includes(content)).length).toBe(1);
  });

  const failures: [name: string, response: () => Response, expected: Partial<ProviderError>][] = [
    [
      "429 with Retry-After",
      () => Response.json({ error: { message: "slow down" } }, { status: 429, headers: { "retry-after": "7" } }),
      { code: "provider_rate_limited", retryable: true, retryAfterMs: 7_000 },
    ],
    [
      "429 with retry-after-ms, and x-should-retry",
      () => new Response("", { status: 429, headers: { "retry-after-ms": "250", "x-should-retry": "true" } }),
      { code: "provider_rate_limited", retryable: true, retryAfterMs: 250 },
    ],
    [
      "an account without credit",
      () => Response.json({ error: { message: "no money", code: "insufficient_quota" } }, { status: 429 }),
      { code: "provider_rate_limited", retryable: false },
    ],
    [
      "401 that quotes the key",
      () => Response.json({ error: { message: `Wrong key ${TEST_KEY}` } }, { status: 401 }),
      { code: "provider_unauthorized", retryable: false },
    ],
    [
      "400",
      () => Response.json({ type: "error", error: { type: "invalid", message: "Grüße" } }, { status: 400 }),
      { code: "provider_refused", retryable: false },
    ],
    [
      "an HTML page",
      () => new Response("<h1>upstream down</h1>", { status: 502, headers: { "content-type": "text/html" } }),
      { code: "provider_unavailable", retryable: true },
    ],
    ["JSON that is not an object", () => Response.json("down", { status: 503 }), { code: "provider_unavailable" }],
    ["no body", () => new Response(null, { status: 500 }), { code: "provider_unavailable" }],
    ["304", () => new Response(null, { status: 304 }), { code: "provider_refused" }],
    ["an unusual status", () => new Response("odd", { status: 529 }), { code: "provider_unavailable" }],
  ];
  test.each(failures)("reports the SDK's error for %s", async (failure, response, expected) => {
    respond = response;
    const baseUrl = server.url.href;
    const error = await sendAndGetError(createProvider(baseUrl), createRequest("What is Parley?"));
    expect(error).toMatchObject(expected);
    expect(JSON.stringify(error)).not.toContain(TEST_KEY);
    const sdkError = await sendWithSdk(baseUrl, createRequest("What is Parley?")).catch((reason: Error) => reason);
    if (!(sdkError instanceof Error) || !("status" in sdkError)) throw new Error("the SDK accepted it as an answer");
    const cause = `HTTP ${sdkError.status}: ${sdkError.message}`.replaceAll(TEST_KEY, "[key]");
    // The `openai` SDK adds a code to its message.
    const code = failure === "an account without credit" && name !== "anthropic" ? " [insufficient_quota]" : "";
    expect(error.cause).toBe(`${cause}${code}`);
    expect(receivedRequests.length).toBe(2);
  });

  const rejection = { message: "Not that.", type: "BadRequestError", param: "top_p", code: "unsupported_value" };
  test.each<[string, object]>([
    ["in `error`", { error: rejection }],
    ["in `error` of an error event", { type: "error", error: rejection }],
    ["at the top level", { object: "error", ...rejection }],
    ["nested twice", { error: { error: rejection, message: "x" } }],
  ])("reads an error's fields %s", async (_name, body) => {
    respond = () => Response.json(body, { status: 400 });
    const error = await sendAndGetError(createProvider(server.url.href), createRequest("What is Parley?"));
    expect(error).toMatchObject({
      code: "provider_refused",
      status: 400,
      providerCode: rejection.code,
      param: "top_p",
    });
    expect(error.cause).toMatch(/Not that\.|^HTTP 400: 400 x/);
  });

  test("doesn't retry an error with a permanent code, even if its status is 500", async () => {
    respond = () => Response.json({ code: "context_length_exceeded", retry_after: 3 }, { status: 500 });
    const error = await sendAndGetError(createProvider(server.url.href), createRequest("What is Parley?"));
    expect(error).toMatchObject({ code: "provider_refused", retryable: false, status: 500, retryAfterMs: 3_000 });
  });

  test.each(redirects)(
    "doesn't follow a redirect (%d to %s), and reports its target",
    async (status, location, target) => {
      respond = () => new Response("Moved", { status, headers: location === null ? {} : { location } });
      const error = await sendAndGetError(createProvider(server.url.href), createRequest("What is Parley?"));
      const expectedTarget = target.replace("[server]", server.url.origin);
      expect(error).toMatchObject({
        code: "provider_unavailable",
        retryable: false,
        cause: `Error: HTTP ${status}: redirects are not followed. Set the base URL to the final address. This redirect points to ${expectedTarget}`,
      });
      expect(receivedRequests.length).toBe(1);
    },
  );

  test("shortens a redirect's target without revealing a key", async () => {
    const location = `https://other.example/${"x".repeat(165)}/${TEST_KEY}`;
    respond = () => new Response(null, { status: 302, headers: { location } });
    const { cause } = await sendAndGetError(createProvider(server.url.href), createRequest("What is Parley?"));
    expect(cause).toContain("https://other.example/xxx");
    expect(cause).not.toContain(TEST_KEY.slice(0, 5));
  });

  test("fails if a successful response has no body", async () => {
    respond = () => new Response(null, { status: 204 });
    const error = await sendAndGetError(createProvider(server.url.href), createRequest("What is Parley?"));
    expect(error.code).toBe("provider_unavailable");
    expect(error.cause).toContain("without a body");
  });

  test("truncates an endless error response", async () => {
    let pulledBytes = 0;
    const chunk = new Uint8Array(65_536).fill(120);
    const pull = (controller: ReadableStreamDefaultController) => {
      pulledBytes += chunk.byteLength;
      controller.enqueue(chunk);
    };
    respond = () => new Response(new ReadableStream({ pull }), { status: 500 });
    const error = await sendAndGetError(createProvider(server.url.href), createRequest("What is Parley?"));
    expect(error.code).toBe("provider_unavailable");
    expect(error.cause).toStartWith("HTTP 500: 500 xxx");
    expect(pulledBytes).toBeLessThan(20_000_000);
  });

  test("reports an unreachable server with the cause but without the key", async () => {
    const error = await sendAndGetError(createProvider("http://127.0.0.1:1/v1"), createRequest("What is Parley?"));
    expect(error).toMatchObject({ code: "provider_unavailable", retryable: true, retryAfterMs: null });
    expect(error.cause).toMatch(/^Connection error\. \(.+\)$/);
    expect(error.cause).not.toContain(TEST_KEY);
  });

  test("fails every time if the URL is invalid", async () => {
    const provider = createProvider("nonsense");
    for (let n = 0; n < 2; n += 1)
      expect((await sendAndGetError(provider, createRequest("What is Parley?"))).code).toBe("provider_unavailable");
  });

  test("closes the connection if the request is aborted before the response", async () => {
    disconnectCount = 0;
    const requestReceived = Promise.withResolvers<void>();
    respond = () => {
      requestReceived.resolve();
      return new Response(new ReadableStream({ pull: () => new Promise(() => {}) }));
    };
    const controller = new AbortController();
    const request = { ...createRequest("What is Parley?"), signal: controller.signal };
    const pushedParts: unknown[] = [];
    const push = (part: unknown) => pushedParts.push(part);
    void createProvider(server.url.href).stream(request, push).then(push);
    await requestReceived.promise;
    controller.abort();
    for (let n = 0; n < 100 && disconnectCount === 0; n += 1) await Bun.sleep(10);
    expect(disconnectCount).toBe(1);
    expect(pushedParts).toEqual([]);
  });
});
