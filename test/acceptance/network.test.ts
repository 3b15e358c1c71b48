import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { AUDIENCE, type Issuer, startIssuer } from "../auth/start-issuer.ts";
import { type Certificate, createCertificates } from "../support/certificates.ts";
import type { Account } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { type HttpProxy, startHttpProxy } from "../support/http-proxy.ts";
import { type McpServer, startMcpServer } from "../support/mcp-server.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { startTlsFront } from "../support/tls-front.ts";
import { waitUntil } from "../support/wait-until.ts";
import { startReceiver, verify } from "../webhooks/receiver.ts";
import { createSite, type Parley, type Site, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

/** A company network: names that only the proxy resolves, and certificates of a private CA. */
const CREDENTIALS = "parley:hunter2/hunter3";
const providers = ["openai", "anthropic", "compatible"];
const whole = "Parley's provider answers in several pieces.";

const certificates = createCertificates();
let authority: Certificate;
let certificate: Certificate;
let caFile: string;
let mockProvider: MockProvider;
let proxy: HttpProxy;
let issuer: Issuer;
let mcp: McpServer;
let environment: Record<string, string>;

const startTls = (port: number): Promise<number> => startTlsFront(certificate, port);

const proxyAddress = (credentials = CREDENTIALS) => {
  const [user = "", password = ""] = credentials.split(":");
  return proxy.url.replace("://", `://${user}:${encodeURIComponent(password)}@`);
};

beforeAll(async () => {
  authority = certificates.create("Company CA", { extensions: "authority" });
  const other = certificates.create("Another CA", { extensions: "authority" });
  const names = ["models.test", "login.test", "hooks.test", "files.test", "mcp.test"];
  certificate = certificates.create("company servers", { issuer: authority, extensions: "local", names });
  caFile = certificates.path("bundle.pem");
  writeFileSync(caFile, `The CAs of the company\n${other.cert}\n# and\n${authority.cert}`);
  mockProvider = startMockProvider();
  proxy = await startHttpProxy(CREDENTIALS);
  issuer = await startIssuer({ host: "login.test", tls: { cert: certificate.cert, key: certificate.key } });
  const url = `https://models.test:${await startTls(mockProvider.port)}`;
  const run = () => ({ content: [{ type: "text", text: "Found." }] });
  mcp = startMcpServer({ revision: "2026", tools: [{ name: "look", run }] });
  const mcpPort = await startTls(Number(new URL(mcp.url).port));
  environment = {
    MCP_SERVERS: `wiki=https://mcp.test:${mcpPort}${new URL(mcp.url).pathname}`,
    HTTPS_PROXY: proxyAddress(),
    NODE_EXTRA_CA_CERTS: caFile,
    OPENAI_API_KEY: "k",
    OPENAI_BASE_URL: `${url}/v1`,
    ANTHROPIC_API_KEY: "k",
    ANTHROPIC_BASE_URL: url,
    COMPATIBLE_BASE_URL: `${url}/v1`,
    AI_MODELS: providers.flatMap((name) => [`${name}/normal`, `${name}/waits`]).join(","),
    AI_MAX_RETRIES: "0",
    OIDC_ISSUER: issuer.url,
    OIDC_AUDIENCE: AUDIENCE,
    WEBHOOK_ALLOW_PRIVATE_NETWORKS: "true",
  };
});
afterAll(async () => {
  await proxy?.stop();
  await mockProvider?.stop();
  await issuer?.stop();
  await mcp?.stop();
  certificates.remove();
});

const askModel = (parley: Parley, account: Account, model: string, more: object = {}) =>
  parley.fetch("/v1/chat/completions", {
    token: account.access_token,
    json: { model, messages: [{ role: "user", content: "Hello" }], ...more },
  });

const expectNoSecret = (text: string) => {
  for (const secret of ["hunter2", "hunter3", btoa(CREDENTIALS)]) expect(text).not.toContain(secret);
};

describe("with the company's proxy and CA", () => {
  let site: Site;
  let parley: Parley;
  let anna: Account;
  beforeAll(async () => {
    site = await createSite({ env: environment });
    parley = await site.start();
    anna = await parley.register();
  });
  afterAll(async () => {
    await site?.remove();
  });

  test.each(providers)("%s answers", async (provider) => {
    const response = await askModel(parley, anna, `${provider}/normal`);
    expect(response.status).toBe(200);
    const { choices } = (await response.json()) as { choices: { message: { content: string } }[] };
    expect(choices[0]?.message.content).toBe(whole);
    for (const { form, authorization } of proxy.requests)
      expect([form, authorization]).toEqual(["tunnel", `Basic ${btoa(CREDENTIALS)}`]);
  });

  test.each(providers)("%s streams without delay, and aborting a request reaches the server", async (provider) => {
    mockProvider.reset();
    mockProvider.script("waits", { fault: "stall", after: 1 });
    const response = await askModel(parley, anna, `${provider}/waits`, { stream: true });
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    // The server has sent one piece and then stalls.
    while (!text.includes("Parley's")) text += (await reader?.read())?.value ?? "";
    await reader?.cancel();
    await waitUntil(() => mockProvider.requests[0]?.aborted === true);
  });

  test("reuses connections", async () => {
    mockProvider.reset();
    for (let n = 0; n < 5; n += 1) await (await askModel(parley, anna, "openai/normal")).text();
    expect(new Set(mockProvider.requests.map(({ clientPort }) => clientPort)).size).toBeLessThan(5);
  });

  test("users log in with the issuer", async () => {
    const response = await parley.fetch("/api/v1/me", { token: await issuer.sign() });
    expect(response.status).toBe(200);
    expect(proxy.requests.some(({ target }) => target === new URL(issuer.url).host)).toBe(true);
  });

  test("calls tools of MCP servers", async () => {
    mockProvider.reset();
    mockProvider.script("normal", { toolCalls: [{ name: "wiki_look", arguments: "{}" }] }, { text: "Done." });
    const { id } = await createConversation(parley, anna, [], { title: "Tools", tools: ["wiki_look"] });
    const path = `/api/v1/conversations/${id}/messages`;
    const headers = { accept: "text/event-stream" };
    const options = { token: anna.access_token, json: { content: "Look.", reply: true }, headers };
    await (await parley.fetch(path, options)).text();
    expect(mcp.calls.length).toBe(1);
    const page = await parley.fetch(path, { token: anna.access_token });
    expect(await page.text()).toContain("Found.");
    expect(proxy.requests.some(({ target }) => target.startsWith("mcp.test:"))).toBe(true);
    mockProvider.reset();
  });

  test("delivers webhooks", async () => {
    const receiver = startReceiver();
    const url = `https://hooks.test:${await startTls(Number(new URL(receiver.url).port))}/in`;
    const created = await parley.fetch("/api/v1/webhooks", {
      token: anna.access_token,
      json: { url, events: ["message.created"] },
    });
    const { secret } = (await created.json()) as { secret: string };
    const { id } = await createConversation(parley, anna);
    await parley.fetch(`/api/v1/conversations/${id}/messages`, {
      token: anna.access_token,
      json: { content: "Hello", reply: false },
    });
    await waitUntil(() => receiver.received.length > 0);
    const [delivery] = receiver.received;
    if (!delivery) throw new Error("Nothing was delivered.");
    expect(verify(secret, delivery)).toMatchObject({ type: "message.created", data: { content: "Hello" } });
    expect(proxy.requests.some(({ target }) => target === new URL(url).host)).toBe(true);
    await receiver.stop();
  });

  test("logs the proxy at start, and its password nowhere", async () => {
    expect(parley.readLog()).toContain(`"proxies":"127.0.0.1:${proxy.port} (for https URLs only)"`);
    const { output } = await site.run(["config"]);
    expect(output).toMatch(new RegExp(`^HTTPS_PROXY=http://\\*{8}@127\\.0\\.0\\.1:${proxy.port} `, "m"));
    expectNoSecret(site.readLog());
  });

  test("downloads an upgrade through the proxy", async () => {
    const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response(null, { status: 404 }) });
    const url = `https://files.test:${await startTls(server.port ?? 0)}/parley`;
    const { code, errors } = await site.run(["upgrade", url, "--no-backup"]);
    await server.stop(true);
    expect([code, errors]).toEqual([1, `${url} can't be downloaded (status 404); check the URL.\n`]);
  });

  test("the health check ignores the proxy", async () => {
    const { port } = new URL(parley.url);
    const { code } = await site.run(["healthcheck"], { PORT: port, HTTP_PROXY: "http://127.0.0.1:1" });
    expect(code).toBe(0);
  });
});

/** The log after a model was unreachable. */
async function logOf(env: Record<string, string>): Promise<string> {
  const site = await createSite({ env: { ...environment, OIDC_ISSUER: "", OIDC_AUDIENCE: "", ...env } });
  try {
    const parley = await site.start();
    const response = await askModel(parley, await parley.register(), "openai/normal");
    expect(response.status).toBe(503);
    const body = await response.text();
    expect(body).not.toContain("proxy");
    expect(body).not.toContain("NODE_EXTRA");
    expectNoSecret(parley.readLog());
    return parley.readLog();
  } finally {
    await site.remove();
  }
}

test("without the CA, the log names the setting", async () => {
  expect(await logOf({ NODE_EXTRA_CA_CERTS: "" })).toContain(
    "if its CA is private, set NODE_EXTRA_CA_CERTS to a file with that CA's certificate",
  );
});

test("with wrong proxy credentials, the log names the setting", async () => {
  expect(await logOf({ HTTPS_PROXY: proxyAddress("parley:wrong") })).toContain(
    `the proxy 127.0.0.1:${proxy.port} refuses the credentials (HTTP 407): correct user and password in HTTPS_PROXY`,
  );
});

test("reads the proxy's address from a file or a lowercase variable", async () => {
  const site = await createSite();
  const file = join(site.directory, "proxy");
  writeFileSync(file, `${proxyAddress()}\n`);
  const fromFile = await site.run(["config"], { HTTPS_PROXY_FILE: file });
  expect(fromFile.output).toMatch(/^HTTPS_PROXY=http:\/\/\*{8}@127\.0\.0\.1:\d+ +# HTTPS_PROXY_FILE$/m);
  const small = await site.run(["config"], { https_proxy: "proxy.test:3128", no_proxy: "a.test b.test" });
  expect(small.output).toMatch(/^HTTPS_PROXY=http:\/\/proxy\.test:3128 +# https_proxy$/m);
  expect(small.output).toMatch(/^NO_PROXY=a\.test,b\.test +# no_proxy$/m);
  expect(small.errors).toBe("");
  await site.remove();
});

test("unusable certificate files stop the start, each with its name", async () => {
  const site = await createSite();
  const path = (name: string, text: string) => {
    writeFileSync(join(site.directory, name), text);
    return name;
  };
  const broken = authority.cert.replace(/[A-Za-z0-9+/]{30}/, "AAAA");
  const wrong = {
    "nowhere.pem": "the file nowhere.pem can't be read; use a file",
    [path("text.pem", "hello")]: "the file text.pem contains no certificate; write certificates as PEM",
    [path("broken.pem", authority.cert + broken)]: "certificate 2 of the file broken.pem is damaged; download it again",
    [path("cut.pem", authority.cert.slice(0, 200))]: "certificate 1 of the file cut.pem is damaged; download it again",
  };
  for (const [file, sentence] of Object.entries(wrong)) {
    const { code, errors } = await site.run([], { NODE_EXTRA_CA_CERTS: file });
    expect([file, code]).toEqual([file, 2]);
    expect(errors).toContain(`NODE_EXTRA_CA_CERTS: ${sentence}`);
  }
  path(".env", `NODE_EXTRA_CA_CERTS=${caFile}\n`);
  const { code, errors } = await site.run(["config", "check"]);
  expect([code, errors]).toEqual([
    2,
    "NODE_EXTRA_CA_CERTS: it is read before .env; remove it there, and set it in the environment.\n",
  ]);
  await site.remove();
});
