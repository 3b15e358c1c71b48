import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { TEST_TIMEOUT_MS } from "../acceptance/installation.ts";
import { createCertificates } from "../support/certificates.ts";
import { startMcpServer } from "../support/mcp-server.ts";
import { findFreePort } from "../support/redis.ts";
import { runDoctor, TEST_SECRET } from "./run-doctor.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of cleanups.splice(0)) await stop();
});

type Respond = (request: Request, path: string) => Response | Promise<Response>;

/** Starts a server that records its requests. */
function startServer(respond: Respond, tls?: { cert: string; key: string }) {
  const requests: { path: string; headers: Record<string, string> }[] = [];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    ...(tls && { tls }),
    fetch(request) {
      const { pathname, search } = new URL(request.url);
      requests.push({ path: pathname + search, headers: Object.fromEntries(request.headers) });
      return respond(request, pathname);
    },
  });
  cleanups.push(() => server.stop(true));
  return { url: `${tls ? "https" : "http"}://127.0.0.1:${server.port}`, requests };
}

const createModelList = (...ids: string[]) => Response.json({ data: ids.map((id) => ({ id })) });
const isModelListPath = (path: string) => path.endsWith("/models");

test("the doctor checks that providers respond and have the models, and sends API keys in each provider's own header", async () => {
  const openai = startServer((_, path) =>
    isModelListPath(path) ? createModelList("gpt-5.2") : new Response(null, { status: 404 }),
  );
  const anthropic = startServer(() => createModelList("claude-sonnet-4-6-20260101"));
  const ollama = startServer(() => createModelList("llama3.2:latest"));
  const { code, listLines } = await runDoctor({
    OPENAI_API_KEY: `sk-${TEST_SECRET}-1`,
    OPENAI_BASE_URL: `${openai.url}/v1`,
    ANTHROPIC_API_KEY: `sk-${TEST_SECRET}-2`,
    ANTHROPIC_BASE_URL: anthropic.url,
    AI_PROVIDERS: `ollama=http://user:${TEST_SECRET}@${ollama.url.slice(7)}/v1`,
    AI_MODELS: "openai/gpt-5.2,anthropic/claude-sonnet-4-6,ollama/llama3.2",
  });
  expect(listLines("providers")).toEqual([
    expect.stringMatching(/^ok: Provider openai .* responds and has gpt-5\.2\.$/),
    expect.stringMatching(/^ok: Provider anthropic .* has claude-sonnet-4-6\.$/),
    expect.stringMatching(/^ok: Provider ollama .* has llama3\.2\.$/),
  ]);
  expect(code).toBe(0);
  expect(openai.requests).toEqual([
    { path: "/v1/models", headers: expect.objectContaining({ authorization: `Bearer sk-${TEST_SECRET}-1` }) },
  ]);
  expect(anthropic.requests).toMatchObject([
    { path: "/v1/models?limit=1000", headers: { "x-api-key": `sk-${TEST_SECRET}-2` } },
  ]);
  expect(ollama.requests[0]?.headers.authorization).toBe(`Basic ${btoa(`user:${TEST_SECRET}`)}`);
});

const expectedLines: [number, RegExp][] = [
  [401, /^problem: .* doesn't accept the key; correct COMPATIBLE_API_KEY\.$/],
  [403, /^problem: .*permission/],
  [404, /^warning: .*no list of models/],
  [429, /^warning: .*limits and balance/],
  [500, /^problem: .*the server failed/],
  [302, /^problem: .*redirect.*COMPATIBLE_BASE_URL/],
];

test.each(expectedLines)("the doctor reports a provider that responds with status %d", async (status, line) => {
  // Some servers include the key in their error message.
  const { url } = startServer(
    () => new Response(`Incorrect key ${TEST_SECRET}`, { status, headers: { location: "/elsewhere" } }),
  );
  const env = { COMPATIBLE_BASE_URL: `${url}/v1`, COMPATIBLE_API_KEY: TEST_SECRET, AI_MODELS: "compatible/llama" };
  expect((await runDoctor(env)).listLines("providers")).toEqual([expect.stringMatching(line)]);
});

test("the doctor reports a missing model, but not an existing model that the provider doesn't list", async () => {
  const { url } = startServer((_, path) => {
    if (isModelListPath(path)) return createModelList("one");
    return path.endsWith("/hidden") ? Response.json({ id: "hidden" }) : new Response("no such model", { status: 404 });
  });
  const env = { COMPATIBLE_BASE_URL: url, AI_MODELS: "compatible/one,compatible/hidden,compatible/gone" };
  const { code, listLines } = await runDoctor(env);
  expect(code).toBe(1);
  expect(listLines("providers")).toEqual([
    expect.stringMatching(/^problem: .* has no model "gone"; correct AI_MODELS/),
  ]);
});

test("the doctor reports providers that hang, are unreachable or have an unknown CA, and calls none with --offline", async () => {
  const hanging = startServer(() => new Promise<Response>(() => {}));
  const { create } = createCertificates();
  const tlsServer = startServer(() => createModelList("m"), create("localhost", { extensions: "local" }));
  const env = {
    AI_PROVIDERS: `slow=${hanging.url}/v1,closed=http://127.0.0.1:${findFreePort()}/v1,tls=${tlsServer.url}/v1`,
    AI_MODELS: "slow/m,closed/m,tls/m",
  };
  const { listLines, durationMs } = await runDoctor(env);
  expect(listLines("providers")).toEqual([
    expect.stringMatching(/^problem: Provider slow .* did not respond within 5 s; check the URL of slow in AI_PROV/),
    expect.stringMatching(/^problem: Provider closed .* can't be reached \(.*ECONNREFUSED/),
    expect.stringMatching(/^problem: Provider tls .*NODE_EXTRA_CA_CERTS/),
  ]);
  expect(durationMs).toBeLessThan(15_000);
  const requestCount = hanging.requests.length;
  const offline = await runDoctor(env, { args: ["--offline"] });
  expect(offline.listLines("providers")).toEqual(["skipped: --offline: the model providers are not called."]);
  expect(hanging.requests).toHaveLength(requestCount);
});

test("the doctor reports a clock that differs from a provider's clock", async () => {
  const findClockLines = async (aheadMs: number) => {
    const date = new Date(Date.now() - aheadMs).toUTCString();
    const { url } = startServer(() => new Response('{"data":[{"id":"m"}]}', { headers: { date } }));
    return (await runDoctor({ COMPATIBLE_BASE_URL: url, AI_MODELS: "compatible/m" })).listLines("clock");
  };
  expect(await findClockLines(0)).toEqual([expect.stringMatching(/^ok: /)]);
  expect(await findClockLines(15_000)).toEqual([expect.stringMatching(/^warning: .* 1[4-6] s ahead of .*NTP/)]);
  expect(await findClockLines(-120_000)).toEqual([expect.stringMatching(/^problem: .* 1(?:19|2[01]) s behind .*NTP/)]);
});

test("the doctor checks MCP servers", async () => {
  const openServer = startMcpServer({ revision: "2025", tools: [{ name: "look", inputSchema: { type: "object" } }] });
  cleanups.push(openServer.stop);
  const lockedServer = startServer(() => new Response("no", { status: 401 }));
  const { listLines } = await runDoctor({
    MCP_SERVERS: `wiki=${openServer.url},locked=${lockedServer.url}/?key=${TEST_SECRET}`,
  });
  expect(listLines("mcp")).toEqual([
    expect.stringMatching(/^ok: MCP server wiki .* responds and has 1 tool\.$/),
    expect.stringMatching(/^problem: MCP server locked .*401.* correct MCP_LOCKED_HEADERS\.$/),
  ]);
});

test("the doctor checks the trace collector", async () => {
  const { url, requests } = startServer(
    (request) => new Response(null, { status: request.headers.has("x-key") ? 200 : 401 }),
  );
  const findTracingLines = async (extraEnv: Record<string, string>) =>
    (await runDoctor({ OTEL_EXPORTER_OTLP_ENDPOINT: url, ...extraEnv })).listLines("tracing");
  expect(await findTracingLines({ OTEL_EXPORTER_OTLP_HEADERS: `x-key=${TEST_SECRET}` })).toEqual([
    expect.stringMatching(/^ok: .* accepts traces/),
  ]);
  expect(await findTracingLines({})).toEqual([
    expect.stringMatching(/^problem: .* responded with 401; .*OTEL_EXPORTER_OTLP_HEADERS/),
  ]);
  expect(requests.map(({ path }) => path)).toEqual(["/v1/traces", "/v1/traces"]);
});

test("the doctor checks the OIDC issuer", async () => {
  const issuer = startServer((request, path) => {
    const { origin } = new URL(request.url);
    return path === "/keys"
      ? Response.json({ keys: [{ kty: "EC" }] })
      : Response.json({ issuer: origin, jwks_uri: `${origin}/keys` });
  });
  const findOidcLines = async (OIDC_ISSUER: string) =>
    (await runDoctor({ OIDC_ISSUER, OIDC_AUDIENCE: "app" })).listLines("oidc");
  expect(await findOidcLines(issuer.url)).toEqual([`ok: The issuer ${issuer.url} has 1 key.`]);
  expect(await findOidcLines(`${issuer.url}/other`)).toEqual([
    expect.stringMatching(/^problem: .*not the discovery document/),
  ]);
});

test("the doctor checks the bucket for backups", async () => {
  const rejectingStorage = startServer(
    () =>
      new Response("<Error><Code>InvalidAccessKeyId</Code></Error>", {
        status: 403,
        headers: { "content-type": "application/xml" },
      }),
  );
  const emptyStorage = startServer(
    () =>
      new Response('<?xml version="1.0"?><ListBucketResult><Name>b</Name></ListBucketResult>', {
        headers: { "content-type": "application/xml" },
      }),
  );
  const findBackupLines = async (BACKUP_S3_ENDPOINT: string) => {
    const s3 = {
      BACKUP_S3_BUCKET: "backups",
      BACKUP_S3_ACCESS_KEY_ID: "AKIATEST",
      BACKUP_S3_SECRET_ACCESS_KEY: TEST_SECRET,
    };
    const schedule = { BACKUP_SCHEDULE: "0 2 * * *", BACKUP_S3_REGION: "eu-test-1", BACKUP_S3_ENDPOINT };
    return (await runDoctor({ ...s3, ...schedule })).listLines("backups");
  };
  expect(await findBackupLines(rejectingStorage.url)).toEqual([
    expect.stringMatching(/^problem: s3:\/\/backups\/ can't be (?:read|listed)/),
  ]);
  expect(await findBackupLines(emptyStorage.url)).toEqual([
    expect.stringMatching(/^ok: s3:\/\/backups\/ can be listed/),
  ]);
});
