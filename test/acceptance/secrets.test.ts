import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createHook, postToHook } from "../hooks/start-hooks.ts";
import { type Account, TEST_PASSWORD } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createRestClient } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";
import { openChat } from "./chat.ts";
import { DATABASE_PASSWORD, type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { createInstallation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const settings = {
  JWT_SECRET: "jwt-secret-for-tests-0123456789abcdef",
  ADMIN_PASSWORD: "admin-password-for-tests",
  METRICS_TOKEN: "metrics-token-for-tests",
  OPENAI_API_KEY: "sk-openai-key-for-tests",
  ANTHROPIC_API_KEY: "sk-ant-key-for-tests",
  COMPATIBLE_API_KEY: "compatible-key-for-tests",
};
const WRONG_PASSWORD = "a-mistyped-password";
const NEW_PASSWORD = "annas-next-password";
const CONTENT = "Only members of this conversation may read this";

let mockProvider: MockProvider;
let server: DatabaseServer;
let env: Record<string, string>;
beforeAll(async () => {
  mockProvider = startMockProvider();
  server = await startDatabaseServer();
  env = {
    ...settings,
    LOG_LEVEL: "trace",
    ADMIN_EMAIL: "root@example.com",
    OPENAI_BASE_URL: mockProvider.openaiUrl,
    ANTHROPIC_BASE_URL: mockProvider.anthropicUrl,
    COMPATIBLE_BASE_URL: mockProvider.openaiUrl,
    AI_MODELS: "openai/unauthorized,anthropic/unauthorized,compatible/unauthorized",
    AI_MAX_RETRIES: "0",
  };
});
afterAll(async () => {
  await server?.stop();
  await mockProvider?.stop();
});

/** Uses valid and invalid secrets in many ways. Returns the strings that must not be logged. */
async function useSecrets(parley: Parley): Promise<string[]> {
  const secrets: string[] = [WRONG_PASSWORD, NEW_PASSWORD, TEST_PASSWORD, CONTENT];
  const anna = await parley.register("anna@example.com");
  const login = { email: "anna@example.com", password: TEST_PASSWORD };
  const postJson = async (path: string, json: unknown, token?: string) =>
    JSON.parse(
      (await (await parley.fetch(`/api/v1${path}`, { json, ...(token !== undefined && { token }) })).text()) || "null",
    );
  await postJson("/auth/login", { ...login, password: WRONG_PASSWORD });
  await postJson("/auth/login", { ...login, password: 7, [WRONG_PASSWORD]: WRONG_PASSWORD });
  await postJson("/auth/register", login);
  const loggedInAccount = (await postJson("/auth/login", login)) as Account;
  const refreshedAccount = (await postJson("/auth/refresh", {
    refresh_token: loggedInAccount.refresh_token,
  })) as Account;
  await postJson("/auth/refresh", { refresh_token: "never-issued-token" });
  const { ticket } = (await postJson("/auth/ticket", {}, anna.access_token)) as { ticket: string };
  for (const query of [`?ticket=${ticket}`, `?ticket=${ticket}`])
    await openSocket(parley.url, { query }).then(
      (socket) => socket.close(),
      () => {},
    );
  await parley.fetch(`/api/v1/me?token=${anna.access_token}`, { headers: { "x-api-key": anna.access_token } });
  const frameAuthSocket = await openSocket(parley.url);
  frameAuthSocket.send({ type: "auth", id: "a", token: anna.access_token });
  await frameAuthSocket.waitFor(({ type }) => type === "ready");
  frameAuthSocket.send(`{"type":"auth","id":"b","token":"${anna.access_token}"`);
  await frameAuthSocket.close();
  const encodedToken = Buffer.from(anna.access_token).toString("base64url");
  const protocolAuthSocket = await openSocket(parley.url, {
    protocols: ["parley.v1", `base64url.bearer.${encodedToken}`],
  });
  await protocolAuthSocket.close();
  await parley.fetch("/metrics", { token: settings.METRICS_TOKEN });
  await postJson(
    "/me/password",
    { current_password: TEST_PASSWORD, new_password: NEW_PASSWORD },
    refreshedAccount.access_token,
  );
  secrets.push(
    ...[anna, loggedInAccount, refreshedAccount].flatMap(({ access_token, refresh_token }) => [
      access_token,
      refresh_token,
    ]),
  );
  secrets.push(ticket, encodedToken, "never-issued-token");

  secrets.push(...(await useHooks(parley)));

  const chat = await openChat(parley);
  const { message } = await chat.waitForAnswer(await chat.requestAnswer(undefined, CONTENT), 15_000);
  expect(message.status).toBe("failed");
  secrets.push(chat.account.access_token);
  await chat.socket.close();
  return secrets.filter((secret) => secret !== undefined);
}

/** Uses hook URLs in many ways, including invalid ones. Returns their secret parts. */
async function useHooks(parley: Parley): Promise<string[]> {
  const owner = await parley.register();
  const { id } = await createConversation(parley, owner);
  const rest = createRestClient(parley, owner);
  const unsignedHook = await createHook(rest, id);
  const signedHook = await createHook(rest, id, { signed: true });
  await postToHook(parley, unsignedHook, { text: CONTENT });
  await postToHook(parley, unsignedHook, { text: 7 });
  await postToHook(parley, unsignedHook, "{", { "content-type": "application/json" });
  await postToHook(parley, unsignedHook, { content: "x".repeat(2 ** 20) });
  await postToHook(parley, unsignedHook, { text: CONTENT, reply: true });
  await postToHook(parley, signedHook, { text: CONTENT });
  for (const method of ["GET", "PUT", "OPTIONS"])
    await parley.fetch(`/api/v1/hooks/${unsignedHook.token}?token=${unsignedHook.token}`, { method });
  await parley.fetch(`/api/v1/hooks/${unsignedHook.token}/${unsignedHook.token}`, { json: {} });
  await rest.request("DELETE", `/conversations/${id}/hooks/${unsignedHook.id}`);
  await postToHook(parley, unsignedHook, { text: CONTENT });
  const metrics = await (await parley.fetch("/metrics", { token: settings.METRICS_TOKEN })).text();
  expect(metrics).toContain('route="/api/v1/hooks/:token"');
  expect(metrics).not.toContain(unsignedHook.token);
  return [unsignedHook.token, signedHook.token, String(signedHook.secret)];
}

function expectNoSecrets(output: string, secrets: string[]): void {
  expect(output.length).toBeGreaterThan(1_000);
  const loggedSecrets = secrets.filter((secret) => output.includes(secret));
  expect(loggedSecrets).toEqual([]);
}

test.each(["json", "pretty"] as const)("secrets are never logged (%s format)", async (format) => {
  const installation = await createInstallation({ env: { ...env, LOG_FORMAT: format } });
  try {
    const parley = await installation.start();
    const secrets = [...Object.values(settings), ...(await useSecrets(parley))];
    await parley.stop();
    const config = await installation.run(["config"]);
    expect(config).toMatchObject({ code: 0 });
    expectNoSecrets(
      installation.readLog() + readFileSync(join(installation.directory, "data/postgres.log"), "utf8"),
      secrets,
    );
  } finally {
    await installation.remove();
  }
});

test("credentials in URLs are never logged, even if a server echoes them", async () => {
  // Like some gateways, this server includes the request's URL and credentials in its error message.
  const gateway = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request) =>
      Response.json(
        {
          error: {
            message: `Bad: ${request.url} ${request.headers.get("authorization")}`,
            type: "invalid_request_error",
          },
        },
        { status: 400 },
      ),
  });
  const urls = {
    COMPATIBLE_BASE_URL: `http://gate-user:gate-password-7@127.0.0.1:${gateway.port}/v1?api-version=2&token=gate-token-for-tests`,
    MCP_SERVERS: [
      "gone=http://mcp-user:mcp-password-7@127.0.0.1:1/mcp?key=mcp-key-for-tests",
      `odd=http://127.0.0.1:${gateway.port}/s/0123456789abcdefghij/mcp?key=odd-key-for-tests`,
    ].join(","),
    REDIS_URL: "redis://redis-user:redis-password-7@127.0.0.1:1",
  };
  const secrets = [
    ...["gate-user", "gate-password-7", btoa("gate-user:gate-password-7"), "gate-token-for-tests"],
    ...["mcp-user", "mcp-password-7", btoa("mcp-user:mcp-password-7"), "mcp-key-for-tests"],
    ...["0123456789abcdefghij", "odd-key-for-tests", "redis-user:redis-password-7", "redis-password-7"],
  ];
  const {
    OPENAI_API_KEY: _openai,
    ANTHROPIC_API_KEY: _anthropic,
    COMPATIBLE_API_KEY: _compatible,
    ...otherSettings
  } = settings;
  const installation = await createInstallation({
    env: {
      ...otherSettings,
      ...urls,
      LOG_LEVEL: "trace",
      AI_MODELS: "compatible/one",
      AI_MAX_RETRIES: "0",
      ADMIN_EMAIL: "root@example.com",
    },
  });
  try {
    const parley = await installation.start();
    const anna = await parley.register();
    const { id } = await createConversation(parley, anna, [], { tools: true });
    const path = `/conversations/${id}/messages`;
    const rest = createRestClient(parley, anna);
    await rest.request("POST", path, { content: "Who answers?", reply: true });
    const responses: string[] = [];
    for (let text = ""; !text.includes('"failed"'); responses.push(text)) {
      await Bun.sleep(50);
      text = JSON.stringify((await rest.get(path)).body);
    }
    responses.push(JSON.stringify((await rest.get("/models")).body));
    responses.push(await (await parley.fetch("/readyz?verbose")).text());
    responses.push(await (await parley.fetch("/metrics", { token: settings.METRICS_TOKEN })).text());
    const config = await installation.run(["config"]);
    expect(config.stdout).toContain(`127.0.0.1:${gateway.port}/v1?api-version=2&token=********`);
    await parley.stop();
    const log = installation.readLog();
    expect(log).toContain('"mcp_server":"gone"');
    expect(log).toContain('"mcp_server":"odd"');
    expectNoSecrets(log + responses.join("\n"), secrets);
  } finally {
    await installation.remove();
    await gateway.stop(true);
  }
});

test("the database password isn't logged when the database fails and recovers", async () => {
  const installation = await createInstallation({ env: { ...env, DATABASE_URL: await server.createDatabase() } });
  try {
    const parley = await installation.start();
    await server.shutDown("fast");
    while ((await parley.fetch("/readyz")).status !== 503) await Bun.sleep(50);
    await parley.fetch("/api/v1/me", { token: "any" });
    await server.start();
    await parley.waitUntilReady();
    await parley.stop();
    await installation.run(["migrate", "--status"]);
    await installation.run(["migrate"], {
      DATABASE_URL: env.DATABASE_URL ?? `postgres://parley:${DATABASE_PASSWORD}@127.0.0.1:1/none`,
    });
    await installation.run(["config"]);
    expectNoSecrets(installation.readLog(), [...Object.values(settings), DATABASE_PASSWORD]);
  } finally {
    await installation.remove();
  }
});
