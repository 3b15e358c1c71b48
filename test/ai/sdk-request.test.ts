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

const seen: ReceivedRequest[] = [];
/** The server's response; its content doesn't matter, only the requests and the errors. */
let answer: () => Response;
let server: ReturnType<typeof Bun.serve>;
let disconnects = 0;

const emptyStream = () => new Response("", { headers: { "content-type": "text/event-stream" } });

beforeAll(() => {
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch(request) {
      request.signal.addEventListener("abort", () => {
        disconnects += 1;
      });
      const { pathname, search } = new URL(request.url);
      const headers = Object.fromEntries(request.headers);
      seen.push({ line: `${request.method} ${pathname}${search}`, headers, body: await request.text() });
      return answer();
    },
  });
  answer = emptyStream;
});
afterEach(() => {
  seen.length = 0;
  answer = emptyStream;
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
  isThinking: false,
  options: { temperature: 0.5 },
  signal: new AbortController().signal,
  pause: new PauseSignal(),
});

type Client = {
  name: string;
  create(baseUrl: string): Provider;
  /** The same request sent by the SDK, with the runtime's `fetch`. */
  askBySdk(baseUrl: string, request: ProviderRequest): Promise<Response>;
};

const createCompatible = (apiKey: string | undefined): Omit<Client, "name"> => ({
  create: (baseUrl) => createCompatibleProvider({ apiKey, baseUrl }),
  askBySdk: (baseUrl, request) =>
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
    create: (baseUrl) => createOpenAiProvider({ apiKey: TEST_KEY, baseUrl }),
    askBySdk: (baseUrl, request) =>
      createOpenAiClient(TEST_KEY, baseUrl, fetch)
        .responses.create(mapToResponsesRequest(request, "openai"))
        .asResponse(),
  },
  {
    name: "anthropic",
    create: (baseUrl) => createAnthropicProvider({ apiKey: TEST_KEY, baseUrl }),
    askBySdk: (baseUrl, request) =>
      createAnthropicClient(TEST_KEY, baseUrl, fetch)
        .messages.create(mapToMessagesRequest(request, "anthropic"))
        .asResponse(),
  },
  { name: "compatible with a key", ...createCompatible(TEST_KEY) },
  { name: "compatible without a key", ...createCompatible(undefined) },
];

/** The server's redirect, and what is logged about it. */
const redirects: [status: number, location: string | null, target: string][] = [
  [301, "https://other.example/v2/models", "https://other.example/v2/models"],
  [302, "/login?next=secret#secret", "[server]/login"],
  [303, "../relative", "[server]/relative"],
  [307, "https://user:secret@other.example:8443/", "https://other.example:8443/"],
  [308, "//other.example/x", "http://other.example/x"],
  [300, null, "no address that can be read"],
  [302, "http://[", "no address that can be read"],
  [302, "data:text/plain,secret", "an address with data:"],
  [302, `https://other.example/${TEST_KEY}/v1`, "https://other.example/[key]/v1"],
];

/** Sends a request and returns the failure of the answer; an empty stream is one. */
async function ask(provider: Provider, request: ProviderRequest): Promise<ProviderError> {
  const end = await provider.stream(request, () => {});
  if (end.type === "error") return end.error;
  throw new Error("no failure");
}

/** These two headers come from the transport, not the SDK. */
function withoutTransport({ headers, ...rest }: ReceivedRequest): ReceivedRequest {
  const { "accept-encoding": _coding, connection: _connection, ...others } = headers;
  return { ...rest, headers: others };
}

describe.each(clients)("$name", ({ name, create, askBySdk }) => {
  // A query in the base URL is part of the SDK's request.
  test.each(["/v1", "/gateway/v1?region=north"])(
    "sends the same request to %s as its SDK, every time",
    async (path) => {
      const baseUrl = new URL(path, server.url).href;
      const provider = create(baseUrl);
      for (const content of ["What is Parley?", "Grüße, 世界 🚀", "a lone \ud83d surrogate"]) {
        const request = createRequest(content);
        await ask(provider, request);
        await askBySdk(baseUrl, request);
        const [ours, sdks] = seen.splice(0);
        if (!ours || !sdks) throw new Error("expected two requests");
        expect(withoutTransport(ours)).toEqual(withoutTransport(sdks));
        expect(ours.headers).toMatchObject({ "accept-encoding": "identity", connection: "keep-alive" });
        expect(ours.headers["content-length"]).toBe(String(Buffer.byteLength(ours.body)));
        expect(JSON.stringify(ours.headers).includes(TEST_KEY)).toBe(name !== "compatible without a key");
        expect(Object.keys(ours.headers).includes("authorization")).toBe(
          Object.keys(sdks.headers).includes("authorization"),
        );
      }
    },
  );

  test("concurrent requests share one preparation, and each has its own body", async () => {
    const provider = create(server.url.href);
    const contents = Array.from({ length: 20 }, (_, index) => `Question ${"ä".repeat(index)}.`);
    await Promise.all(contents.map((content) => ask(provider, createRequest(content))));
    for (const content of contents) expect(seen.filter(({ body }) => body.includes(content)).length).toBe(1);
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
  test.each(failures)("%s is the SDK's error", async (failure, response, expected) => {
    answer = response;
    const baseUrl = server.url.href;
    const error = await ask(create(baseUrl), createRequest("What is Parley?"));
    expect(error).toMatchObject(expected);
    expect(JSON.stringify(error)).not.toContain(TEST_KEY);
    const thrown = await askBySdk(baseUrl, createRequest("What is Parley?")).catch((reason: Error) => reason);
    if (!(thrown instanceof Error) || !("status" in thrown)) throw new Error("the SDK accepted it as an answer");
    const cause = `HTTP ${thrown.status}: ${thrown.message}`.replaceAll(TEST_KEY, "[key]");
    // The `openai` SDK adds a code to its message.
    const code = failure === "an account without credit" && name !== "anthropic" ? " [insufficient_quota]" : "";
    expect(error.cause).toBe(`${cause}${code}`);
    expect(seen.length).toBe(2);
  });

  const refusal = { message: "Not that.", type: "BadRequestError", param: "top_p", code: "unsupported_value" };
  test.each<[string, object]>([
    ["in `error`", { error: refusal }],
    ["in `error` of an error", { type: "error", error: refusal }],
    ["flat", { object: "error", ...refusal }],
    ["nested twice", { error: { error: refusal, message: "x" } }],
  ])("error fields are read wherever they are: %s", async (_name, body) => {
    answer = () => Response.json(body, { status: 400 });
    const error = await ask(create(server.url.href), createRequest("What is Parley?"));
    expect(error).toMatchObject({ code: "provider_refused", status: 400, providerCode: refusal.code, param: "top_p" });
    expect(error.cause).toMatch(/Not that\.|^HTTP 400: 400 x/);
  });

  test("an error that is final only by its name isn't retried", async () => {
    answer = () => Response.json({ code: "context_length_exceeded", retry_after: 3 }, { status: 500 });
    const error = await ask(create(server.url.href), createRequest("What is Parley?"));
    expect(error).toMatchObject({ code: "provider_refused", retryable: false, status: 500, retryAfterMs: 3_000 });
  });

  test.each(redirects)(
    "a redirect (%d to %s) isn't followed; the log says where it points",
    async (status, location, target) => {
      answer = () => new Response("Moved", { status, headers: location === null ? {} : { location } });
      const error = await ask(create(server.url.href), createRequest("What is Parley?"));
      const where = target.replace("[server]", server.url.origin);
      expect(error).toMatchObject({
        code: "provider_unavailable",
        retryable: false,
        cause: `Error: HTTP ${status}: redirects are not followed; set the base URL to the address that answers. This one points to ${where}`,
      });
      expect(seen.length).toBe(1);
    },
  );

  test("a redirect's address is shortened, without any key", async () => {
    const location = `https://other.example/${"x".repeat(165)}/${TEST_KEY}`;
    answer = () => new Response(null, { status: 302, headers: { location } });
    const { cause } = await ask(create(server.url.href), createRequest("What is Parley?"));
    expect(cause).toContain("https://other.example/xxx");
    expect(cause).not.toContain(TEST_KEY.slice(0, 5));
  });

  test("a successful response without a body", async () => {
    answer = () => new Response(null, { status: 204 });
    const error = await ask(create(server.url.href), createRequest("What is Parley?"));
    expect(error.code).toBe("provider_unavailable");
    expect(error.cause).toContain("without a body");
  });

  test("an endless error is truncated", async () => {
    let pulled = 0;
    const chunk = new Uint8Array(65_536).fill(120);
    const pull = (controller: ReadableStreamDefaultController) => {
      pulled += chunk.byteLength;
      controller.enqueue(chunk);
    };
    answer = () => new Response(new ReadableStream({ pull }), { status: 500 });
    const error = await ask(create(server.url.href), createRequest("What is Parley?"));
    expect(error.code).toBe("provider_unavailable");
    expect(error.cause).toStartWith("HTTP 500: 500 xxx");
    expect(pulled).toBeLessThan(20_000_000);
  });

  test("an unreachable server is the SDK's connection error, with its cause and without the key", async () => {
    const error = await ask(create("http://127.0.0.1:1/v1"), createRequest("What is Parley?"));
    expect(error).toMatchObject({ code: "provider_unavailable", retryable: true, retryAfterMs: null });
    expect(error.cause).toMatch(/^Connection error\. \(.+\)$/);
    expect(error.cause).not.toContain(TEST_KEY);
  });

  test("an invalid URL fails every time, and is reported", async () => {
    const provider = create("nonsense");
    for (let n = 0; n < 2; n += 1)
      expect((await ask(provider, createRequest("What is Parley?"))).code).toBe("provider_unavailable");
  });

  test("stopping before the response head ends the request at the server, and returns nothing", async () => {
    disconnects = 0;
    const begun = Promise.withResolvers<void>();
    answer = () => {
      begun.resolve();
      return new Response(new ReadableStream({ pull: () => new Promise(() => {}) }));
    };
    const stopping = new AbortController();
    const request = { ...createRequest("What is Parley?"), signal: stopping.signal };
    const given: unknown[] = [];
    const push = (part: unknown) => given.push(part);
    void create(server.url.href).stream(request, push).then(push);
    await begun.promise;
    stopping.abort();
    for (let n = 0; n < 100 && disconnects === 0; n += 1) await Bun.sleep(10);
    expect(disconnects).toBe(1);
    expect(given).toEqual([]);
  });
});
