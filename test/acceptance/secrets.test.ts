import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createHook, post } from "../hooks/start-hooks.ts";
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
  JWT_SECRET: "jwt-secret-of-the-tests-0123456789abcdef",
  ADMIN_PASSWORD: "admin-password-of-the-tests",
  METRICS_TOKEN: "metrics-token-of-the-tests",
  OPENAI_API_KEY: "sk-openai-key-of-the-tests",
  ANTHROPIC_API_KEY: "sk-ant-key-of-the-tests",
  COMPATIBLE_API_KEY: "compatible-key-of-the-tests",
};
const WRONG_PASSWORD = "a-password-that-was-mistyped";
const NEW_PASSWORD = "the-next-password-of-anna";
const CONTENT = "What only the members of this conversation may read";

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

/** Uses every secret in many ways, and also wrong secrets. Returns the strings that must not be logged. */
async function useSecrets(parley: Parley): Promise<string[]> {
  const secrets: string[] = [WRONG_PASSWORD, NEW_PASSWORD, TEST_PASSWORD, CONTENT];
  const anna = await parley.register("anna@example.com");
  const login = { email: "anna@example.com", password: TEST_PASSWORD };
  const post = async (path: string, json: unknown, token?: string) =>
    JSON.parse(
      (await (await parley.fetch(`/api/v1${path}`, { json, ...(token !== undefined && { token }) })).text()) || "null",
    );
  await post("/auth/login", { ...login, password: WRONG_PASSWORD });
  await post("/auth/login", { ...login, password: 7, [WRONG_PASSWORD]: WRONG_PASSWORD });
  await post("/auth/register", login);
  const second = (await post("/auth/login", login)) as Account;
  const refreshed = (await post("/auth/refresh", { refresh_token: second.refresh_token })) as Account;
  await post("/auth/refresh", { refresh_token: "never-given-out-token" });
  const { ticket } = (await post("/auth/ticket", {}, anna.access_token)) as { ticket: string };
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
  await post("/me/password", { current_password: TEST_PASSWORD, new_password: NEW_PASSWORD }, refreshed.access_token);
  secrets.push(
    ...[anna, second, refreshed].flatMap(({ access_token, refresh_token }) => [access_token, refresh_token]),
  );
  secrets.push(ticket, encodedToken, "never-given-out-token");

  secrets.push(...(await useHooks(parley)));

  const chat = await openChat(parley);
  const { message } = await chat.waitForAnswer(await chat.requestAnswer(undefined, CONTENT), 15_000);
  expect(message.status).toBe("failed");
  secrets.push(chat.account.access_token);
  await chat.socket.close();
  return secrets.filter((secret) => secret !== undefined);
}

/** Uses hook URLs in many ways, also incorrectly. Returns their secret parts. */
async function useHooks(parley: Parley): Promise<string[]> {
  const owner = await parley.register();
  const { id } = await createConversation(parley, owner);
  const rest = createRestClient(parley, owner);
  const [open, signed] = [await createHook(rest, id), await createHook(rest, id, { signed: true })];
  await post(parley, open, { text: CONTENT });
  await post(parley, open, { text: 7 });
  await post(parley, open, "{", { "content-type": "application/json" });
  await post(parley, open, { content: "x".repeat(2 ** 20) });
  await post(parley, open, { text: CONTENT, reply: true });
  await post(parley, signed, { text: CONTENT });
  for (const method of ["GET", "PUT", "OPTIONS"])
    await parley.fetch(`/api/v1/hooks/${open.token}?token=${open.token}`, { method });
  await parley.fetch(`/api/v1/hooks/${open.token}/${open.token}`, { json: {} });
  await rest.request("DELETE", `/conversations/${id}/hooks/${open.id}`);
  await post(parley, open, { text: CONTENT });
  const metrics = await (await parley.fetch("/metrics", { token: settings.METRICS_TOKEN })).text();
  expect(metrics).toContain('route="/api/v1/hooks/:token"');
  expect(metrics).not.toContain(open.token);
  return [open.token, signed.token, String(signed.secret)];
}

function expectNoSecrets(output: string, secrets: string[]): void {
  expect(output.length).toBeGreaterThan(1_000);
  const found = secrets.filter((secret) => output.includes(secret));
  expect(found).toEqual([]);
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
  // Like some gateways, this server echoes the request in its error.
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
    COMPATIBLE_BASE_URL: `http://gate-user:gate-password-7@127.0.0.1:${gateway.port}/v1?api-version=2&token=gate-token-of-the-tests`,
    MCP_SERVERS: [
      "gone=http://mcp-user:mcp-password-7@127.0.0.1:1/mcp?key=mcp-key-of-the-tests",
      `odd=http://127.0.0.1:${gateway.port}/s/0123456789abcdefghij/mcp?key=odd-key-of-the-tests`,
    ].join(","),
    REDIS_URL: "redis://redis-user:redis-password-7@127.0.0.1:1",
  };
  const secrets = [
    ...["gate-user", "gate-password-7", btoa("gate-user:gate-password-7"), "gate-token-of-the-tests"],
    ...["mcp-user", "mcp-password-7", btoa("mcp-user:mcp-password-7"), "mcp-key-of-the-tests"],
    ...["0123456789abcdefghij", "odd-key-of-the-tests", "redis-user:redis-password-7", "redis-password-7"],
  ];
  const { OPENAI_API_KEY: _openai, ANTHROPIC_API_KEY: _anthropic, COMPATIBLE_API_KEY: _compatible, ...rest } = settings;
  const installation = await createInstallation({
    env: {
      ...rest,
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
    expect(config.output).toContain(`127.0.0.1:${gateway.port}/v1?api-version=2&token=********`);
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
