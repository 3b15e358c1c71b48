import { afterEach, expect, test } from "bun:test";
import { decodeJwt, jwtVerify } from "jose";
import { findUnknownNames } from "../../src/config/unknown-names.ts";
import { ConfigError, formatConfig, loadConfig } from "../../src/config.ts";
import type { Message } from "../../src/protocol/message.ts";
import type { Account } from "../support/app.ts";
import { type McpServer, startMcpServer, type TestTool } from "../support/mcp-server.ts";
import { waitUntil } from "../support/wait-until.ts";
import { startWithMcp, type ToolApp } from "./start-with-mcp.ts";

const SECRET = "a-secret-for-the-wiki-server-32-bytes!";
const OTHER_SECRET = "a-secret-for-the-other-server-32-bytes";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const revisions = ["2026", "2025"] as const;
const createTextResult = (content: string) => ({ content: [{ type: "text", text: content }] });
/** Returns the id of the calling user, from the verified token. */
const whoamiTool: TestTool = {
  name: "whoami",
  run: async (_, { authorization }) => createTextResult((await verifyToken(authorization)).sub ?? ""),
};

async function verifyToken(authorization: string | null, secret = SECRET, audience?: string) {
  const key = new TextEncoder().encode(secret);
  const options = {
    issuer: "https://chat.example.com",
    maxTokenAge: "60s",
    algorithms: ["HS256"],
    ...(audience && { audience }),
  };
  return (await jwtVerify(authorization?.replace("Bearer ", "") ?? "", key, options)).payload;
}

function startMcp(revision: (typeof revisions)[number], tools: TestTool[] = [whoamiTool]): McpServer {
  const server = startMcpServer({ revision, tools });
  cleanups.push(server.stop);
  return server;
}

async function startApp(config: Record<string, string>): Promise<ToolApp> {
  const app = await startWithMcp({ PUBLIC_URL: "https://chat.example.com", ...config });
  cleanups.push(app.stop);
  return app;
}

const whoamiCall = { toolCalls: [{ name: "wiki_whoami", arguments: "{}" }] };

test.each(revisions)(
  "in a group, each call has the requester's identity, and users don't share sessions (%s)",
  async (revision) => {
    const mcp = startMcp(revision, [whoamiTool]);
    const plainServer = startMcp(revision, [{ name: "plain" }]);
    const app = await startApp({
      MCP_SERVERS: `wiki=${mcp.url},plain=${plainServer.url}`,
      MCP_WIKI_IDENTITY_SECRET: SECRET,
    });
    const [anna, ben, outsider] = await Promise.all([
      app.parley.register(),
      app.parley.register(),
      app.parley.register(),
    ]);
    const id = await app.createConversation(anna, [ben], true);
    const requesters = [
      { account: anna, model: "one" },
      { account: ben, model: "two" },
    ];
    const answers: { account: Account; messages: Message[] }[] = [];
    for (let round = 0; round < 2; round += 1) {
      for (const { model } of requesters) app.provider.script(model, whoamiCall, whoamiCall, { text: "Done." });
      const requests = requesters.map(async ({ account, model }) => {
        return { account, messages: await app.requestAnswer(account, id, { model: `compatible/${model}` }) };
      });
      answers.push(...(await Promise.all(requests)));
    }
    for (const { account, messages } of answers) {
      const [, ...results] = messages;
      expect(results.map(({ content }) => content)).toEqual([account.user.id, account.user.id]);
    }
    const verifiedCalls = await Promise.all(
      mcp.calls.map(async ({ authorization, session }) => ({
        ...(await verifyToken(authorization, SECRET, mcp.url)),
        session,
      })),
    );
    expect(new Set(verifiedCalls.map(({ sub }) => sub))).toEqual(new Set([anna.user.id, ben.user.id]));
    // Each request has a separate token, and no session is used for two users.
    expect(new Set(verifiedCalls.map(({ jti }) => jti)).size).toBe(verifiedCalls.length);
    const callsBySession = Map.groupBy(verifiedCalls, ({ session }) => session);
    if (revision === "2025")
      for (const [session, calls] of callsBySession) {
        expect(session).not.toBeNull();
        expect(new Set(calls.map(({ sub }) => sub)).size).toBe(1);
      }
    expect(verifiedCalls[0]).toMatchObject({ email_verified: false, aud: mcp.url });
    // The identity is also sent when listing tools, but not to a server without an identity secret.
    expect(mcp.requests.every(({ authorization }) => authorization?.startsWith("Bearer "))).toBe(true);
    expect(plainServer.requests.length).toBeGreaterThan(0);
    expect(plainServer.requests.every(({ authorization }) => authorization === null)).toBe(true);
    // No stream is kept open for a user.
    expect(mcp.requests.some(({ method, rpcMethod }) => method === "GET" || rpcMethod === "subscriptions/listen")).toBe(
      false,
    );
    // An outsider gets no answer, so the server receives nothing about them.
    const outsiderResponse = await app.parley.fetch(`/api/v1/conversations/${id}/messages`, {
      token: outsider.access_token,
      json: { content: "Look.", reply: true },
    });
    expect(outsiderResponse.status).toBe(404);
    const subjects = mcp.requests.map(({ authorization }) => decodeJwt(authorization?.slice(7) ?? "").sub);
    expect(subjects).not.toContain(outsider.user.id);
  },
  60_000,
);

test("a call requested with an API key has the identity of the key's user", async () => {
  const mcp = startMcp("2026");
  const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}`, MCP_WIKI_IDENTITY_SECRET: SECRET });
  const anna = await app.parley.register();
  const id = await app.createConversation(anna, [], true);
  const scopes = ["messages:write", "messages:read"];
  const json = { name: "bot", scopes };
  const response = await app.parley.fetch("/api/v1/api-keys", { token: anna.access_token, json });
  const { key } = (await response.json()) as { key: string };
  app.provider.script("one", whoamiCall, { text: "Done." });
  const [, result] = await app.requestAnswer({ ...anna, access_token: key }, id);
  expect(result?.content).toBe(anna.user.id);
});

test("a hook doesn't act as its owner", async () => {
  const mcp = startMcp("2026");
  const plainServer = startMcp("2026", [{ name: "plain" }]);
  const app = await startApp({
    MCP_SERVERS: `wiki=${mcp.url},plain=${plainServer.url}`,
    MCP_WIKI_IDENTITY_SECRET: SECRET,
  });
  const anna = await app.parley.register();
  const id = await app.createConversation(anna, [], true);
  const path = `/api/v1/conversations/${id}`;
  const response = await app.parley.fetch(`${path}/hooks`, { token: anna.access_token, json: { name: "ci" } });
  const { token } = (await response.json()) as { token: string };
  app.provider.script("one", whoamiCall, { text: "Done." });
  const hookResponse = await app.parley.fetch(`/api/v1/hooks/${token}`, { json: { content: "Look.", reply: true } });
  const { reply } = (await hookResponse.json()) as { reply: { id: string } };
  const listMessages = async () => {
    const page = await app.parley.fetch(`${path}/messages`, { token: anna.access_token });
    return ((await page.json()) as { data: Message[] }).data;
  };
  await waitUntil(async () =>
    (await listMessages()).some((message) => message.id === reply.id && message.status === "complete"),
  );
  expect((await listMessages()).find(({ role }) => role === "tool")?.content).toBe(
    "Error: This tool is not available.",
  );
  expect(app.listOfferedTools()).toEqual(["search_documents", "plain_plain"]);
  expect(mcp.requests).toEqual([]);
  // Tools in a regenerated answer are called on behalf of the member who requested it.
  const ben = await app.parley.register();
  await app.parley.fetch(`${path}/members`, {
    token: anna.access_token,
    json: { user_id: ben.user.id, role: "member" },
  });
  app.provider.script("one", whoamiCall, { text: "Done." });
  await app.parley.fetch(`${path}/messages/${reply.id}/regenerate`, { token: ben.access_token, method: "POST" });
  await waitUntil(async () => mcp.calls.length === 1);
  expect((await verifyToken(mcp.calls[0]?.authorization ?? null)).sub).toBe(ben.user.id);
});

test("each server has its own secret and audience, and a tool list per user", async () => {
  const wiki = startMcp("2026");
  const otherServer = startMcp("2025", [{ name: "whoami" }]);
  const app = await startApp({
    MCP_SERVERS: `wiki=${wiki.url},other=${otherServer.url}`,
    MCP_WIKI_IDENTITY_SECRET: SECRET,
    MCP_OTHER_IDENTITY_SECRET: OTHER_SECRET,
  });
  const [anna, ben] = await Promise.all([app.parley.register(), app.parley.register()]);
  // This server rejects everyone but Anna.
  wiki.state.intercept = (request) => {
    const { sub } = decodeJwt(request.headers.get("authorization")?.slice(7) ?? "");
    return sub === anna.user.id ? null : new Response("Forbidden", { status: 403 });
  };
  for (const [account, expected] of [
    [ben, ["other_whoami"]],
    [anna, ["wiki_whoami", "other_whoami"]],
    [ben, ["other_whoami"]],
  ] as const) {
    const id = await app.createConversation(account, [], true);
    app.provider.script("one", { text: "Done." });
    await app.requestAnswer(account, id);
    expect(app.listOfferedTools()).toEqual(["search_documents", ...expected]);
  }
  const token = otherServer.requests[0]?.authorization ?? null;
  await verifyToken(token, OTHER_SECRET, otherServer.url);
  await expect(verifyToken(token, SECRET)).rejects.toThrow();
  await expect(verifyToken(token, OTHER_SECRET, wiki.url)).rejects.toThrow();
});

test("a user who is disabled during an answer can no longer call tools", async () => {
  const mcp = startMcp("2026", [
    { name: "first", run: () => disableBen().then(() => createTextResult("first")) },
    { name: "second", run: () => createTextResult("second") },
  ]);
  const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}`, MCP_WIKI_IDENTITY_SECRET: SECRET });
  const [anna, ben] = await Promise.all([app.parley.register(), app.parley.register()]);
  const disableBen = async () => {
    await app.parley.database`update users set disabled_at = now() where id = ${ben.user.id}`;
  };
  const id = await app.createConversation(anna, [ben], true);
  const names = ["wiki_first", "wiki_second"];
  app.provider.script("one", { toolCalls: names.map((name) => ({ name, arguments: "{}" })) }, { text: "Done." });
  await app.parley.fetch(`/api/v1/conversations/${id}/messages`, {
    token: ben.access_token,
    json: { content: "Look.", reply: true },
  });
  const listToolMessages = async () => {
    const page = await app.parley.fetch(`/api/v1/conversations/${id}/messages`, { token: anna.access_token });
    return ((await page.json()) as { data: { role: string; content: string }[] }).data.filter(
      ({ role }) => role === "tool",
    );
  };
  await waitUntil(async () => (await listToolMessages()).length === 2);
  const results = (await listToolMessages()).map(({ content }) => content);
  expect(results).toEqual(["first", "Error: The user's account was deleted or disabled."]);
  expect(mcp.calls.map(({ name }) => name)).toEqual(["first"]);
});

test("a token echoed by the server reaches neither the model nor the conversation", async () => {
  const echoTool: TestTool = {
    name: "echo",
    run: (_, { authorization }) => createTextResult(`You sent: ${authorization}`),
  };
  const failTool: TestTool = {
    name: "fail",
    run: (_, { authorization }) => {
      throw new Error(`Refused: ${authorization}`);
    },
  };
  const mcp = startMcp("2025", [echoTool, failTool]);
  const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}`, MCP_WIKI_IDENTITY_SECRET: SECRET });
  const anna = await app.parley.register();
  const id = await app.createConversation(anna, [], true);
  const toolCalls = ["wiki_echo", "wiki_fail"].map((name) => ({ name, arguments: "{}" }));
  app.provider.script("one", { toolCalls }, { text: "Done." });
  const [, echoResult, failResult] = await app.requestAnswer(anna, id);
  expect(echoResult?.content).toBe("You sent: Bearer ********");
  expect(failResult?.content).toContain("Refused: Bearer ********");
});

test("a server's headers, timeout and secret are validated, and secrets are masked when the settings are printed", async () => {
  const baseSettings = { MCP_SERVERS: "my-wiki=https://mcp.example.com/mcp" };
  const loadSettings = (settings: Record<string, string>) => loadConfig({ ...baseSettings, ...settings }, () => "");
  const printedConfig = formatConfig(
    loadSettings({
      MCP_MY_WIKI_HEADERS: '{"x-api-key":"hunter2hunter2"}',
      MCP_MY_WIKI_IDENTITY_SECRET: SECRET,
      MCP_MY_WIKI_TIMEOUT_MS: "5000",
    }),
  );
  expect(printedConfig).toContain("MCP_MY_WIKI_TIMEOUT_MS=5000");
  expect(printedConfig).not.toContain("hunter2");
  expect(printedConfig).not.toContain(SECRET);
  const findProblems = (settings: Record<string, string>): string => {
    try {
      loadSettings(settings);
    } catch (error) {
      if (error instanceof ConfigError) return error.message;
      throw error;
    }
    return "";
  };
  expect(findProblems({ MCP_MY_WIKI_IDENTITY_SECRET: "short" })).toContain(
    "MCP_MY_WIKI_IDENTITY_SECRET: the value is shorter than 32 bytes",
  );
  expect(findProblems({ MCP_MY_WIKI_HEADERS: "no" })).toContain("MCP_MY_WIKI_HEADERS: the value is not a JSON object");
  expect(findProblems({ MCP_MY_WIKI_TIMEOUT_MS: "9" })).toContain("MCP_MY_WIKI_TIMEOUT_MS");
  const conflictingSettings = {
    MCP_MY_WIKI_HEADERS: '{"Authorization":"Bearer x"}',
    MCP_MY_WIKI_IDENTITY_SECRET: SECRET,
  };
  const knownSettings = { MCP_SERVERS: [baseSettings.MCP_SERVERS] };
  expect(findUnknownNames({ MCP_JIRA_HEADERS: "{}" }, () => false, knownSettings)).toEqual([
    "MCP_JIRA_HEADERS is not a Parley setting and has no effect; add the server to MCP_SERVERS, as jira=ITS_URL.",
  ]);
  expect(findUnknownNames({ MCP_MY_WIKI_HEADERS_FILE: "/x", MCP_TIMEOUT: "1" }, () => false, knownSettings)).toEqual(
    [],
  );
  expect(findProblems(conflictingSettings)).toContain("identity tokens are sent as authorization");
});

test("a server's headers are sent only to that server", async () => {
  const receivedKeys: (string | null)[] = [];
  const wiki = startMcp("2026", [{ name: "look" }]);
  const otherServer = startMcp("2026", [{ name: "look" }]);
  const app = await startApp({
    MCP_SERVERS: `wiki=${wiki.url},other=${otherServer.url}`,
    MCP_WIKI_HEADERS: '{"X-API-Key":"key-for-the-wiki-1"}',
  });
  wiki.state.intercept = (request) => {
    if (request.headers.get("x-api-key") === "key-for-the-wiki-1") return null;
    return new Response(null, { status: 401 });
  };
  otherServer.state.intercept = (request) => {
    receivedKeys.push(request.headers.get("x-api-key"));
    return null;
  };
  const anna = await app.parley.register();
  const id = await app.createConversation(anna, [], true);
  const toolCalls = ["wiki_look", "other_look"].map((name) => ({ name, arguments: "{}" }));
  app.provider.script("one", { toolCalls }, { text: "Done." });
  const [, first, second] = await app.requestAnswer(anna, id);
  expect([first?.content, second?.content]).toEqual(["done", "done"]);
  expect(new Set(receivedKeys)).toEqual(new Set([null]));
});

test("credentials echoed by a server reach neither models nor users", async () => {
  const credentials = { basic: "user:pass-Word-1", key: "key-for-the-server-2" };
  const echoTool: TestTool = {
    name: "echo",
    run: (_, { authorization }) => ({
      ...createTextResult(`Refused: ${authorization} ${credentials.key}`),
      isError: true,
    }),
  };
  const refuseTool: TestTool = {
    name: "refuse",
    run: (_, { authorization }) => Promise.reject(new Error(`refused: ${authorization} ${credentials.key}`)),
  };
  const mcp = startMcp("2025", [echoTool, refuseTool]);
  const app = await startApp({
    MCP_SERVERS: `wiki=${mcp.url.replace("://", `://${credentials.basic}@`)}`,
    MCP_WIKI_HEADERS: JSON.stringify({ "x-key": credentials.key }),
  });
  const anna = await app.parley.register();
  const id = await app.createConversation(anna, [], true);
  const calls = ["wiki_echo", "wiki_refuse"].map((name) => ({ name, arguments: "{}" }));
  app.provider.script("one", { toolCalls: calls }, { text: "Done." });
  const [, ...results] = await app.requestAnswer(anna, id);
  expect(mcp.calls[0]?.authorization).toBe(`Basic ${btoa(credentials.basic)}`);
  const visibleText = JSON.stringify([results, app.provider.requests.at(-1)?.body]);
  expect(results.map(({ content }) => content)).toEqual([
    expect.stringContaining("Refused: Basic ********"),
    expect.stringContaining("refused: Basic ********"),
  ]);
  for (const secret of [btoa(credentials.basic), credentials.key]) expect(visibleText).not.toContain(secret);
});
