import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { readFileSync } from "node:fs";
import { createExplainFailure } from "../../src/ai/providers/explain-failure.ts";
import { CONNECT_TIMEOUT_MS } from "../../src/lib/http-client/open-socket.ts";
import { createFindProxy, type FindProxy } from "../../src/lib/outgoing/find-proxy.ts";
import { collect, createTestChain } from "../ai/collect.ts";
import { untilReusable } from "../ai/raw-server.ts";
import { type HttpProxy, startHttpProxy } from "../support/http-proxy.ts";
import { createTestLog } from "../support/log.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { startTlsFront } from "../support/tls-front.ts";
import { waitUntil } from "../support/wait-until.ts";

const USER = "parley";
const PASSWORD = "s3cret/pass";
const CREDENTIALS = `${USER}:${PASSWORD}`;
/** A certificate for `*.models.test` whose CA this process trusts: models-by-tls.test.ts runs this file with one. */
const { TEST_TLS_CERT, TEST_TLS_KEY } = process.env;
const certificate =
  TEST_TLS_CERT && TEST_TLS_KEY
    ? { cert: readFileSync(TEST_TLS_CERT, "utf8"), key: readFileSync(TEST_TLS_KEY, "utf8") }
    : null;
type Form = "absolute" | "tunnel" | "tunnel with TLS";
const forms: Form[] = certificate ? ["tunnel with TLS"] : ["absolute", "tunnel"];
const whole = "Parley's provider answers in several pieces.";
const providers = ["openai", "anthropic", "compatible"];

let mockProvider: MockProvider;
let proxy: HttpProxy;
/** The port where the mock server serves TLS, if it does. */
let front: number | null = null;
/** A name that only the proxy resolves; a new one per test, so that no idle connection exists for it. */
let names = 0;
let addresses: Pick<MockProvider, "openaiUrl" | "anthropicUrl">;
const realSetTimeout = globalThis.setTimeout;

beforeAll(async () => {
  mockProvider = startMockProvider();
  proxy = await startHttpProxy(CREDENTIALS);
  if (certificate) front = await startTlsFront(certificate, mockProvider.port);
});
beforeEach(() => {
  names += 1;
  const rename = (url: string) => url.replace(new URL(url).origin, originOf(front ?? mockProvider.port));
  addresses = { openaiUrl: rename(mockProvider.openaiUrl), anthropicUrl: rename(mockProvider.anthropicUrl) };
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

const originOf = (port: number) => `${certificate ? "https" : "http"}://${names}.models.test:${port}`;

/** The address of the proxy, with a user and a password. */
const addressOf = (password = PASSWORD) => proxy.url.replace("://", `://${USER}:${encodeURIComponent(password)}@`);

/** Requests that the proxy makes, or tunnels that it opens; https addresses always use the latter. */
const byForm = (form: Form, address = addressOf()): FindProxy => {
  const findProxy = createFindProxy({ HTTP_PROXY: address, HTTPS_PROXY: address });
  return (url) => {
    const route = findProxy(url);
    return route && { ...route, isTunnel: form !== "absolute" };
  };
};

/** The setting that the log names. */
const setting = certificate ? "HTTPS_PROXY" : "HTTP_PROXY";

const faults = ["rate-limited-long", "fails", "unauthorized", "refused", "html"];
const faultsInStream = ["stall", "cut", "error-event", "no-end-marker", "not-json"];

describe.each(forms)("through a proxy: %s", (form) => {
  test.each(providers)("%s answers", async (provider) => {
    const model = `${provider}/normal`;
    const { text, end } = await collect(createTestChain(addresses, [model], { findProxy: byForm(form) }));
    expect(end).toMatchObject({ type: "finish", model });
    expect(text).toBe(whole);
    expect(proxy.requests).toEqual([
      {
        form: form === "absolute" ? form : "tunnel",
        target: new URL(addresses.openaiUrl).host,
        authorization: `Basic ${btoa(CREDENTIALS)}`,
        clientPort: expect.any(Number),
      },
    ]);
    // Headers for the proxy don't reach the server.
    expect(Object.keys(mockProvider.requests[0]?.headers ?? {}).filter((name) => name.startsWith("proxy-"))).toEqual(
      [],
    );
  });

  test.each(providers)("%s streams without delay, and an abort ends the request at the server", async (provider) => {
    // The server hangs forever after its first piece.
    mockProvider.script("waits", { fault: "stall", after: 1 });
    const controller = new AbortController();
    const chain = createTestChain(addresses, [`${provider}/waits`], {
      findProxy: byForm(form),
      firstTokenTimeoutMs: 20_000,
      idleTimeoutMs: 20_000,
    });
    let text = "";
    const messages = [{ role: "user" as const, content: "Hello" }];
    const ended = chain.run({ model: null, messages, signal: controller.signal }, (part) => {
      if (part.type === "text") text += part.text;
    });
    await waitUntil(() => text === "Parley's ");
    controller.abort();
    await ended;
    await waitUntil(() => mockProvider.requests[0]?.aborted === true);
    await waitUntil(() => !proxy.isOpen(proxy.requests[0]?.clientPort ?? 0));
  });

  test.each(providers.flatMap((provider) => [...faults, ...faultsInStream].map((fault) => [provider, fault] as const)))(
    "%s, whose model %s, fails the same as without a proxy",
    async (provider, fault) => {
      const models = [`${provider}/${fault}`, `${provider}/normal`];
      const direct = await collect(createTestChain(mockProvider, models));
      const requestsOf = () => mockProvider.requests.map(({ model, body }) => ({ model, body }));
      const directRequests = requestsOf();
      mockProvider.reset();
      const proxied = await collect(createTestChain(addresses, models, { findProxy: byForm(form) }));
      expect(proxied).toEqual(direct);
      expect(requestsOf()).toEqual(directRequests);
      expect(proxy.requests.length).toBeGreaterThan(0);
    },
  );

  test("a connection serves several requests in sequence", async () => {
    const chain = createTestChain(addresses, ["openai/normal"], { findProxy: byForm(form) });
    for (let n = 0; n < 3; n += 1) {
      await collect(chain);
      await untilReusable();
    }
    expect(mockProvider.requests.length).toBe(3);
    expect(new Set(mockProvider.requests.map(({ clientPort }) => clientPort)).size).toBe(1);
    expect(new Set(proxy.requests.map(({ clientPort }) => clientPort)).size).toBe(1);
  });

  test("a redirect is not followed", async () => {
    let redirectedRequests = 0;
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch(request) {
        redirectedRequests += 1;
        return Response.redirect(new URL("/elsewhere", request.url).href, 307);
      },
    });
    const port = server.port ?? 0;
    const url = `${originOf(certificate ? await startTlsFront(certificate, port) : port)}/v1`;
    const chain = createTestChain({ openaiUrl: url, anthropicUrl: url }, ["openai/normal"], {
      findProxy: byForm(form),
    });
    const { end } = await collect(chain);
    await server.stop(true);
    expect(end).toMatchObject({ type: "error", code: "provider_unavailable" });
    expect(redirectedRequests).toBe(1);
  });

  /** The log lines when the only model can't be reached. */
  async function explain(findProxy: FindProxy): Promise<string> {
    const { log, lines } = createTestLog();
    const { end } = await collect(
      createTestChain(addresses, ["openai/normal"], {
        findProxy,
        log,
        maxRetries: 0,
        explainFailure: createExplainFailure({ OPENAI_API_KEY: "k", OPENAI_BASE_URL: addresses.openaiUrl }),
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

  test("wrong or missing credentials name the setting", async () => {
    const name = `127.0.0.1:${proxy.port}`;
    expect(await explain(byForm(form, addressOf("wrong")))).toContain(
      `the proxy ${name} refuses the credentials (HTTP 407): correct user and password in ${setting}`,
    );
    expect(await explain(byForm(form, proxy.url))).toContain(
      `the proxy ${name} requires credentials (HTTP 407): add user:password@ to ${setting}`,
    );
  });

  test("an unreachable proxy is named", async () => {
    const gone = await startHttpProxy();
    await gone.stop();
    const explanation = await explain(byForm(form, gone.url));
    expect(explanation).toContain(`the proxy 127.0.0.1:${gone.port} can't be used (`);
    // A host name that can't be resolved; the error isn't attributed to the model's server.
    const unknown = await explain(byForm(form, "http://proxy.invalid:3128"));
    expect(unknown).toContain("the proxy proxy.invalid:3128 can't be used (");
    expect(unknown).not.toContain("OPENAI_BASE_URL");
  });
});

const modes = ["refuses", "disconnects", "sends nonsense", "sends extra data", "stalls"] as const;
const sentences = {
  refuses:
    /the proxy 127\.0\.0\.1:\d+ refused to connect to \d+\.models\.test:\d+ \(HTTP 403\): allow the host in the proxy, or add it/,
  disconnects: /the proxy 127\.0\.0\.1:\d+ can't be used \(.*\): check HTTP_PROXY/,
  "sends nonsense": /the proxy 127\.0\.0\.1:\d+ can't be used \(status line 220 mail.*\): check HTTP_PROXY/,
  "sends extra data": /the proxy 127\.0\.0\.1:\d+ can't be used \(data after its response\): check HTTP_PROXY/,
  stalls:
    /the proxy 127\.0\.0\.1:\d+ can't be used \(no connection to \d+\.models\.test:\d+ in 10000 ms\): check HTTP_PROXY/,
};

test.each(modes)("a proxy that %s when a connection is requested", async (mode) => {
  proxy.state.mode = mode;
  // Avoids waiting for the timeout.
  spyOn(globalThis, "setTimeout").mockImplementation(((work: () => void, ms: number) =>
    realSetTimeout(work, ms === CONNECT_TIMEOUT_MS ? 100 : ms)) as typeof setTimeout);
  const { log, lines } = createTestLog();
  const options = { findProxy: byForm("tunnel"), log, maxRetries: 0, firstTokenTimeoutMs: 20_000 };
  const { end } = await collect(createTestChain(addresses, ["openai/normal"], options));
  expect(end).toMatchObject({ type: "error", code: "provider_unavailable" });
  expect(JSON.stringify(lines)).toMatch(sentences[mode]);
  expect(mockProvider.requests).toEqual([]);
});

test("hosts of NO_PROXY are connected to directly", async () => {
  const findProxy = createFindProxy({ HTTP_PROXY: proxy.url, NO_PROXY: ["127.0.0.0/8"] });
  const { text } = await collect(createTestChain(mockProvider, ["openai/normal"], { findProxy }));
  expect(text).toBe(whole);
  expect(proxy.requests).toEqual([]);
});
