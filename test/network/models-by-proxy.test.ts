import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { readFileSync } from "node:fs";
import { createFailureExplainer } from "../../src/ai/providers/explain-failure.ts";
import { CONNECT_TIMEOUT_MS } from "../../src/lib/http-client/open-socket.ts";
import { createProxyFinder, type FindProxy } from "../../src/lib/outgoing/find-proxy.ts";
import { collectRun, createTestChain } from "../ai/collect.ts";
import { waitUntilReusable } from "../ai/raw-server.ts";
import { type HttpProxy, startHttpProxy } from "../support/http-proxy.ts";
import { createTestLog } from "../support/log.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { startTlsProxy } from "../support/tls-proxy.ts";
import { waitUntil } from "../support/wait-until.ts";

const USER = "parley";
const PASSWORD = "s3cret/pass";
const CREDENTIALS = `${USER}:${PASSWORD}`;
/** A certificate for `*.models.test` from a CA that this process trusts. It is set only if models-by-tls.test.ts runs this file. */
const { TEST_TLS_CERT, TEST_TLS_KEY } = process.env;
const certificate =
  TEST_TLS_CERT && TEST_TLS_KEY
    ? { cert: readFileSync(TEST_TLS_CERT, "utf8"), key: readFileSync(TEST_TLS_KEY, "utf8") }
    : null;
type ProxyMode = "absolute" | "tunnel" | "tunnel with TLS";
const proxyModes: ProxyMode[] = certificate ? ["tunnel with TLS"] : ["absolute", "tunnel"];
const answerText = "Parley's provider answers in several pieces.";
const providers = ["openai", "anthropic", "compatible"];

let mockProvider: MockProvider;
let proxy: HttpProxy;
/** Port where the mock server serves TLS, if there is a certificate. */
let tlsPort: number | null = null;
/** Makes host names unique per test, so that there are no idle connections. Only the proxy resolves the names. */
let testNumber = 0;
let urls: Pick<MockProvider, "openaiUrl" | "anthropicUrl">;
const realSetTimeout = globalThis.setTimeout;

beforeAll(async () => {
  mockProvider = startMockProvider();
  proxy = await startHttpProxy(CREDENTIALS);
  if (certificate) tlsPort = await startTlsProxy(certificate, mockProvider.port);
});
beforeEach(() => {
  testNumber += 1;
  const replaceOrigin = (url: string) => url.replace(new URL(url).origin, createOrigin(tlsPort ?? mockProvider.port));
  urls = { openaiUrl: replaceOrigin(mockProvider.openaiUrl), anthropicUrl: replaceOrigin(mockProvider.anthropicUrl) };
});
afterEach(() => {
  globalThis.setTimeout = realSetTimeout;
  mockProvider.reset();
  proxy.requests.length = 0;
  proxy.state.mode = "forwards";
});
afterAll(async () => {
  await proxy.stop();
  await mockProvider.stop();
});

const createOrigin = (port: number) => `${certificate ? "https" : "http"}://${testNumber}.models.test:${port}`;

/** Returns the proxy's URL with credentials. */
const createProxyUrl = (password = PASSWORD) => proxy.url.replace("://", `://${USER}:${encodeURIComponent(password)}@`);

/** Creates a `FindProxy` that routes requests through the proxy in the given mode. HTTPS URLs always use a tunnel. */
const createFindProxy = (mode: ProxyMode, proxyUrl = createProxyUrl()): FindProxy => {
  const findProxy = createProxyFinder({ HTTP_PROXY: proxyUrl, HTTPS_PROXY: proxyUrl });
  return (url) => {
    const route = findProxy(url);
    return route && { ...route, isTunnel: mode !== "absolute" };
  };
};

/** The setting that the log must mention. */
const proxySetting = certificate ? "HTTPS_PROXY" : "HTTP_PROXY";

const faults = ["rate-limited-long", "fails", "unauthorized", "refused", "html"];
const faultsInStream = ["stall", "cut", "error-event", "no-end-marker", "not-json"];

describe.each(proxyModes)("through a proxy (%s)", (mode) => {
  test.each(providers)("%s answers", async (provider) => {
    const model = `${provider}/normal`;
    const { text, end } = await collectRun(createTestChain(urls, [model], { findProxy: createFindProxy(mode) }));
    expect(end).toMatchObject({ type: "finish", model });
    expect(text).toBe(answerText);
    expect(proxy.requests).toEqual([
      {
        kind: mode === "absolute" ? mode : "tunnel",
        target: new URL(urls.openaiUrl).host,
        authorization: `Basic ${btoa(CREDENTIALS)}`,
        clientPort: expect.any(Number),
      },
    ]);
    // Proxy headers don't reach the server.
    expect(Object.keys(mockProvider.requests[0]?.headers ?? {}).filter((name) => name.startsWith("proxy-"))).toEqual(
      [],
    );
  });

  test.each(providers)("%s streams without delay, and an abort ends the request at the server", async (provider) => {
    // The server hangs after its first chunk.
    mockProvider.script("waits", { fault: "stall", piecesBeforeFault: 1 });
    const controller = new AbortController();
    const chain = createTestChain(urls, [`${provider}/waits`], {
      findProxy: createFindProxy(mode),
      firstTokenTimeoutMs: 20_000,
      idleTimeoutMs: 20_000,
    });
    let text = "";
    const messages = [{ role: "user" as const, content: "Hello" }];
    const runPromise = chain.run({ model: null, messages, signal: controller.signal }, (part) => {
      if (part.type === "text") text += part.text;
    });
    await waitUntil(() => text === "Parley's ");
    controller.abort();
    await runPromise;
    await waitUntil(() => mockProvider.requests[0]?.wasAborted === true);
    await waitUntil(() => !proxy.isOpen(proxy.requests[0]?.clientPort ?? 0));
  });

  test.each(providers.flatMap((provider) => [...faults, ...faultsInStream].map((fault) => [provider, fault] as const)))(
    "%s with the model %s fails in the same way as without a proxy",
    async (provider, fault) => {
      const models = [`${provider}/${fault}`, `${provider}/normal`];
      const directResult = await collectRun(createTestChain(mockProvider, models));
      const listRequests = () => mockProvider.requests.map(({ model, body }) => ({ model, body }));
      const directRequests = listRequests();
      mockProvider.reset();
      const proxiedResult = await collectRun(createTestChain(urls, models, { findProxy: createFindProxy(mode) }));
      expect(proxiedResult).toEqual(directResult);
      expect(listRequests()).toEqual(directRequests);
      expect(proxy.requests.length).toBeGreaterThan(0);
    },
  );

  test("a connection serves several requests in sequence", async () => {
    const chain = createTestChain(urls, ["openai/normal"], { findProxy: createFindProxy(mode) });
    for (let n = 0; n < 3; n += 1) {
      await collectRun(chain);
      await waitUntilReusable();
    }
    expect(mockProvider.requests.length).toBe(3);
    expect(new Set(mockProvider.requests.map(({ clientPort }) => clientPort)).size).toBe(1);
    expect(new Set(proxy.requests.map(({ clientPort }) => clientPort)).size).toBe(1);
  });

  test("a redirect is not followed", async () => {
    let receivedRequestCount = 0;
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch(request) {
        receivedRequestCount += 1;
        return Response.redirect(new URL("/elsewhere", request.url).href, 307);
      },
    });
    const port = server.port ?? 0;
    const url = `${createOrigin(certificate ? await startTlsProxy(certificate, port) : port)}/v1`;
    const chain = createTestChain({ openaiUrl: url, anthropicUrl: url }, ["openai/normal"], {
      findProxy: createFindProxy(mode),
    });
    const { end } = await collectRun(chain);
    await server.stop(true);
    expect(end).toMatchObject({ type: "error", code: "provider_unavailable" });
    expect(receivedRequestCount).toBe(1);
  });

  /** Returns the log lines of a request whose only model can't be reached. */
  async function logFailure(findProxy: FindProxy): Promise<string> {
    const { log, lines } = createTestLog();
    const { end } = await collectRun(
      createTestChain(urls, ["openai/normal"], {
        findProxy,
        log,
        maxRetries: 0,
        explainFailure: createFailureExplainer({ OPENAI_API_KEY: "k", OPENAI_BASE_URL: urls.openaiUrl }),
      }),
    );
    expect(end).toMatchObject({ type: "error", code: "provider_unavailable" });
    expect(JSON.stringify(end)).not.toContain("proxy");
    const text = JSON.stringify(lines);
    for (const secret of [PASSWORD, encodeURIComponent(PASSWORD), btoa(CREDENTIALS), "wrong"])
      expect(text).not.toContain(secret);
    expect(mockProvider.requests).toEqual([]);
    return text;
  }

  test("the log mentions the setting if the proxy's credentials are invalid or missing", async () => {
    const name = `127.0.0.1:${proxy.port}`;
    expect(await logFailure(createFindProxy(mode, createProxyUrl("wrong")))).toContain(
      `the proxy ${name} rejects the credentials (HTTP 407): correct the user and password in ${proxySetting}`,
    );
    expect(await logFailure(createFindProxy(mode, proxy.url))).toContain(
      `the proxy ${name} requires credentials (HTTP 407): add user:password@ to ${proxySetting}`,
    );
  });

  test("the log identifies an unreachable proxy", async () => {
    const stoppedProxy = await startHttpProxy();
    await stoppedProxy.stop();
    const explanation = await logFailure(createFindProxy(mode, stoppedProxy.url));
    expect(explanation).toContain(`the proxy 127.0.0.1:${stoppedProxy.port} can't be used (`);
    // If the proxy's name can't be resolved, the log mentions the proxy, not the model's server.
    const unknownProxyLog = await logFailure(createFindProxy(mode, "http://proxy.invalid:3128"));
    expect(unknownProxyLog).toContain("the proxy proxy.invalid:3128 can't be used (");
    expect(unknownProxyLog).not.toContain("OPENAI_BASE_URL");
  });
});

const proxyFaults = ["rejects", "disconnects", "sends nonsense", "sends extra data", "stalls"] as const;
const expectedMessages = {
  rejects:
    /the proxy 127\.0\.0\.1:\d+ refused to connect to \d+\.models\.test:\d+ \(HTTP 403\): allow the host in the proxy, or add it/,
  disconnects: /the proxy 127\.0\.0\.1:\d+ can't be used \(.*\): check HTTP_PROXY/,
  "sends nonsense": /the proxy 127\.0\.0\.1:\d+ can't be used \(status line 220 mail.*\): check HTTP_PROXY/,
  "sends extra data": /the proxy 127\.0\.0\.1:\d+ can't be used \(data after its response\): check HTTP_PROXY/,
  stalls:
    /the proxy 127\.0\.0\.1:\d+ can't be used \(no connection to \d+\.models\.test:\d+ in 10000 ms\): check HTTP_PROXY/,
};

test.each(proxyFaults)(
  "the log explains the failure of a proxy that %s when a connection is requested",
  async (mode) => {
    proxy.state.mode = mode;
    // Avoids waiting for the timeout.
    spyOn(globalThis, "setTimeout").mockImplementation(((work: () => void, ms: number) =>
      realSetTimeout(work, ms === CONNECT_TIMEOUT_MS ? 100 : ms)) as typeof setTimeout);
    const { log, lines } = createTestLog();
    const options = { findProxy: createFindProxy("tunnel"), log, maxRetries: 0, firstTokenTimeoutMs: 20_000 };
    const { end } = await collectRun(createTestChain(urls, ["openai/normal"], options));
    expect(end).toMatchObject({ type: "error", code: "provider_unavailable" });
    expect(JSON.stringify(lines)).toMatch(expectedMessages[mode]);
    expect(mockProvider.requests).toEqual([]);
  },
);

test("hosts in NO_PROXY are connected to directly", async () => {
  const findProxy = createProxyFinder({ HTTP_PROXY: proxy.url, NO_PROXY: ["127.0.0.0/8"] });
  const { text } = await collectRun(createTestChain(mockProvider, ["openai/normal"], { findProxy }));
  expect(text).toBe(answerText);
  expect(proxy.requests).toEqual([]);
});
