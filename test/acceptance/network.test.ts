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
import { startTlsProxy } from "../support/tls-proxy.ts";
import { waitUntil } from "../support/wait-until.ts";
import { startReceiver, verifySignature } from "../webhooks/receiver.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

// These tests simulate a company's network, in which only the proxy can resolve names and a private CA issues the
// certificates.
const PROXY_CREDENTIALS = "parley:hunter2/hunter3";
const providers = ["openai", "anthropic", "compatible"];
const expectedText = "Parley's provider answers in several pieces.";

const certificates = createCertificates();
let authority: Certificate;
let certificate: Certificate;
let caFile: string;
let mockProvider: MockProvider;
let proxy: HttpProxy;
let issuer: Issuer;
let mcpServer: McpServer;
let networkEnvironment: Record<string, string>;

const startTlsProxyFor = (port: number): Promise<number> => startTlsProxy(certificate, port);

const createProxyUrl = (credentials = PROXY_CREDENTIALS) => {
  const [user = "", password = ""] = credentials.split(":");
  return proxy.url.replace("://", `://${user}:${encodeURIComponent(password)}@`);
};

beforeAll(async () => {
  authority = certificates.create("Company CA", { extensions: "authority" });
  const otherAuthority = certificates.create("Other CA", { extensions: "authority" });
  const names = ["models.test", "login.test", "hooks.test", "files.test", "mcp.test"];
  certificate = certificates.create("company servers", { issuer: authority, extensions: "local", names });
  caFile = certificates.getPath("bundle.pem");
  writeFileSync(caFile, `CAs of this company\n${otherAuthority.cert}\n# and\n${authority.cert}`);
  mockProvider = startMockProvider();
  proxy = await startHttpProxy(PROXY_CREDENTIALS);
  issuer = await startIssuer({ host: "login.test", tls: { cert: certificate.cert, key: certificate.key } });
  const url = `https://models.test:${await startTlsProxyFor(mockProvider.port)}`;
  const runTool = () => ({ content: [{ type: "text", text: "Found." }] });
  mcpServer = startMcpServer({ revision: "2026", tools: [{ name: "look", run: runTool }] });
  const mcpPort = await startTlsProxyFor(Number(new URL(mcpServer.url).port));
  networkEnvironment = {
    MCP_SERVERS: `wiki=https://mcp.test:${mcpPort}${new URL(mcpServer.url).pathname}`,
    HTTPS_PROXY: createProxyUrl(),
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
  await mcpServer?.stop();
  certificates.remove();
});

const requestCompletion = (parley: Parley, account: Account, model: string, extraFields: object = {}) =>
  parley.fetch("/v1/chat/completions", {
    token: account.access_token,
    json: { model, messages: [{ role: "user", content: "Hello" }], ...extraFields },
  });

const expectNoSecrets = (text: string) => {
  for (const secret of ["hunter2", "hunter3", btoa(PROXY_CREDENTIALS)]) expect(text).not.toContain(secret);
};

describe("with a company's proxy and private CA", () => {
  let installation: Installation;
  let parley: Parley;
  let anna: Account;
  beforeAll(async () => {
    installation = await createInstallation({ env: networkEnvironment });
    parley = await installation.start();
    anna = await parley.register();
  });
  afterAll(async () => {
    await installation?.remove();
  });

  test.each(providers)("%s models can answer", async (provider) => {
    const response = await requestCompletion(parley, anna, `${provider}/normal`);
    expect(response.status).toBe(200);
    const { choices } = (await response.json()) as { choices: { message: { content: string } }[] };
    expect(choices[0]?.message.content).toBe(expectedText);
    for (const { kind, authorization } of proxy.requests)
      expect([kind, authorization]).toEqual(["tunnel", `Basic ${btoa(PROXY_CREDENTIALS)}`]);
  });

  test.each(providers)("answers from %s models are streamed without delay, and can be aborted", async (provider) => {
    mockProvider.reset();
    mockProvider.script("waits", { fault: "stall", piecesBeforeFault: 1 });
    const response = await requestCompletion(parley, anna, `${provider}/waits`, { stream: true });
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    // The server sends one piece, then stalls.
    while (!text.includes("Parley's")) text += (await reader?.read())?.value ?? "";
    await reader?.cancel();
    await waitUntil(() => mockProvider.requests[0]?.wasAborted === true);
  });

  test("connections are reused", async () => {
    mockProvider.reset();
    for (let n = 0; n < 5; n += 1) await (await requestCompletion(parley, anna, "openai/normal")).text();
    expect(new Set(mockProvider.requests.map(({ clientPort }) => clientPort)).size).toBeLessThan(5);
  });

  test("users can authenticate with a token from the OIDC issuer", async () => {
    const response = await parley.fetch("/api/v1/me", { token: await issuer.sign() });
    expect(response.status).toBe(200);
    expect(proxy.requests.some(({ target }) => target === new URL(issuer.url).host)).toBe(true);
  });

  test("models can call tools on MCP servers", async () => {
    mockProvider.reset();
    mockProvider.script("normal", { toolCalls: [{ name: "wiki_look", arguments: "{}" }] }, { text: "Done." });
    const { id } = await createConversation(parley, anna, [], { title: "Tools", tools: ["wiki_look"] });
    const path = `/api/v1/conversations/${id}/messages`;
    const headers = { accept: "text/event-stream" };
    const options = { token: anna.access_token, json: { content: "Look.", reply: true }, headers };
    await (await parley.fetch(path, options)).text();
    expect(mcpServer.calls.length).toBe(1);
    const messagesResponse = await parley.fetch(path, { token: anna.access_token });
    expect(await messagesResponse.text()).toContain("Found.");
    expect(proxy.requests.some(({ target }) => target.startsWith("mcp.test:"))).toBe(true);
    mockProvider.reset();
  });

  test("webhooks are delivered", async () => {
    const receiver = startReceiver();
    const url = `https://hooks.test:${await startTlsProxyFor(Number(new URL(receiver.url).port))}/in`;
    const webhookResponse = await parley.fetch("/api/v1/webhooks", {
      token: anna.access_token,
      json: { url, events: ["message.created"] },
    });
    const { secret } = (await webhookResponse.json()) as { secret: string };
    const { id } = await createConversation(parley, anna);
    await parley.fetch(`/api/v1/conversations/${id}/messages`, {
      token: anna.access_token,
      json: { content: "Hello", reply: false },
    });
    await waitUntil(() => receiver.received.length > 0);
    const [delivery] = receiver.received;
    if (!delivery) throw new Error("Nothing was delivered.");
    expect(verifySignature(secret, delivery)).toMatchObject({ type: "message.created", data: { content: "Hello" } });
    expect(proxy.requests.some(({ target }) => target === new URL(url).host)).toBe(true);
    await receiver.stop();
  });

  test("the proxy is logged at startup without its password", async () => {
    expect(parley.readLog()).toContain(`"proxies":"127.0.0.1:${proxy.port} (for https URLs only)"`);
    const { stdout } = await installation.run(["config"]);
    expect(stdout).toMatch(new RegExp(`^HTTPS_PROXY=http://\\*{8}@127\\.0\\.0\\.1:${proxy.port} `, "m"));
    expectNoSecrets(installation.readLog());
  });

  test("upgrades are downloaded through the proxy", async () => {
    const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response(null, { status: 404 }) });
    const url = `https://files.test:${await startTlsProxyFor(server.port ?? 0)}/parley`;
    const { code, stderr } = await installation.run(["upgrade", url, "--no-backup"]);
    await server.stop(true);
    expect([code, stderr]).toEqual([1, `${url} can't be downloaded (status 404); check the URL.\n`]);
  });

  test("the health check bypasses the proxy", async () => {
    const { port } = new URL(parley.url);
    const { code } = await installation.run(["healthcheck"], { PORT: port, HTTP_PROXY: "http://127.0.0.1:1" });
    expect(code).toBe(0);
  });
});

/** Requests an answer from an unreachable model, and returns the server's log. */
async function captureLogOnFailure(env: Record<string, string>): Promise<string> {
  const installation = await createInstallation({
    env: { ...networkEnvironment, OIDC_ISSUER: "", OIDC_AUDIENCE: "", ...env },
  });
  try {
    const parley = await installation.start();
    const response = await requestCompletion(parley, await parley.register(), "openai/normal");
    expect(response.status).toBe(503);
    const body = await response.text();
    expect(body).not.toContain("proxy");
    expect(body).not.toContain("NODE_EXTRA");
    expectNoSecrets(parley.readLog());
    return parley.readLog();
  } finally {
    await installation.remove();
  }
}

test("if the private CA isn't configured, the log recommends NODE_EXTRA_CA_CERTS", async () => {
  expect(await captureLogOnFailure({ NODE_EXTRA_CA_CERTS: "" })).toContain(
    "if its CA is private, set NODE_EXTRA_CA_CERTS to a file with that CA's certificate",
  );
});

test("if the proxy rejects the credentials, the log mentions HTTPS_PROXY", async () => {
  expect(await captureLogOnFailure({ HTTPS_PROXY: createProxyUrl("parley:wrong") })).toContain(
    `the proxy 127.0.0.1:${proxy.port} rejects the credentials (HTTP 407): correct the user and password in HTTPS_PROXY`,
  );
});

test("the proxy's URL can be set in a file or in a lowercase variable", async () => {
  const installation = await createInstallation();
  const file = join(installation.directory, "proxy");
  writeFileSync(file, `${createProxyUrl()}\n`);
  const fromFile = await installation.run(["config"], { HTTPS_PROXY_FILE: file });
  expect(fromFile.stdout).toMatch(/^HTTPS_PROXY=http:\/\/\*{8}@127\.0\.0\.1:\d+ +# HTTPS_PROXY_FILE$/m);
  const fromLowercase = await installation.run(["config"], {
    https_proxy: "proxy.test:3128",
    no_proxy: "a.test b.test",
  });
  expect(fromLowercase.stdout).toMatch(/^HTTPS_PROXY=http:\/\/proxy\.test:3128 +# https_proxy$/m);
  expect(fromLowercase.stdout).toMatch(/^NO_PROXY=a\.test,b\.test +# no_proxy$/m);
  expect(fromLowercase.stderr).toBe("");
  await installation.remove();
});

test("Parley doesn't start with an unusable certificate file", async () => {
  const installation = await createInstallation();
  const writeFile = (name: string, text: string) => {
    writeFileSync(join(installation.directory, name), text);
    return name;
  };
  const damagedCertificate = authority.cert.replace(/[A-Za-z0-9+/]{30}/, "AAAA");
  const expectedErrors = {
    "nowhere.pem": "the file nowhere.pem can't be read; use an existing file",
    [writeFile("text.pem", "hello")]: "the file text.pem contains no certificate; write certificates as PEM",
    [writeFile("broken.pem", authority.cert + damagedCertificate)]:
      "certificate 2 of the file broken.pem is damaged; download it again",
    [writeFile("cut.pem", authority.cert.slice(0, 200))]:
      "certificate 1 of the file cut.pem is damaged; download it again",
  };
  for (const [file, expectedError] of Object.entries(expectedErrors)) {
    const { code, stderr } = await installation.run([], { NODE_EXTRA_CA_CERTS: file });
    expect([file, code]).toEqual([file, 2]);
    expect(stderr).toContain(`NODE_EXTRA_CA_CERTS: ${expectedError}`);
  }
  writeFile(".env", `NODE_EXTRA_CA_CERTS=${caFile}\n`);
  const { code, stderr } = await installation.run(["config", "check"]);
  expect([code, stderr]).toEqual([
    2,
    "NODE_EXTRA_CA_CERTS: it is read before .env; remove it there, and set it in the environment.\n",
  ]);
  await installation.remove();
});
