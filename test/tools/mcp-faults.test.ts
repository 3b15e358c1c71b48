import { afterEach, expect, test } from "bun:test";
import { BACKOFF_MIN_MS } from "../../src/modules/tools/mcp/limits.ts";
import { type McpServer, startMcpServer, type TestTool } from "../support/mcp-server.ts";
import { waitUntil } from "../support/wait-until.ts";
import { startWithMcp, type ToolApp } from "./start-with-mcp.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const revisions = ["2026", "2025"] as const;
const createTextResult = (content: string) => ({ content: [{ type: "text", text: content }] });
const lookTool: TestTool = { name: "look", run: () => createTextResult("Found.") };
const hangForever = () => new Promise<never>(() => {});

function startServer(revision: (typeof revisions)[number], tools: TestTool[] = [lookTool]): McpServer {
  const server = startMcpServer({ revision, tools });
  cleanups.push(server.stop);
  return server;
}

async function startApp(config: Record<string, string>): Promise<ToolApp> {
  const app = await startWithMcp(config);
  cleanups.push(app.stop);
  return app;
}

/** Creates a user with a conversation that has all tools. */
async function createToolUser(app: ToolApp) {
  const account = await app.parley.register();
  const conversationId = await app.createConversation(account, [], true);
  return {
    conversationId,
    account,
    /** Requests an answer that calls these tools, and returns their results. */
    async callTools(...names: string[]) {
      const toolCalls = names.map((name) => ({ name, arguments: "{}" }));
      if (names.length > 0) app.provider.script("one", { toolCalls }, { text: "Done." });
      else app.provider.script("one", { text: "Done." });
      const [answer, ...results] = await app.requestAnswer(account, conversationId);
      expect(answer).toMatchObject({ content: "Done.", status: "complete" });
      return results.map(({ content }) => content);
    },
  };
}

test("the tools of an unreachable or hanging server are not offered, and the answer and other servers are not affected", async () => {
  const healthyServer = startServer("2026");
  const hangingServer = startServer("2025");
  hangingServer.state.intercept = hangForever;
  const app = await startApp({
    MCP_SERVERS: `unreachable=http://127.0.0.1:9/mcp,healthy=${healthyServer.url},hanging=${hangingServer.url}`,
  });
  const { callTools } = await createToolUser(app);
  expect(await callTools("healthy_look")).toEqual(["Found."]);
  expect(app.listOfferedTools()).toEqual(["search_documents", "healthy_look"]);
  // The first answer waits until the servers have listed their tools. Later answers refresh the lists in the background.
  hangingServer.state.intercept = () => null;
  await waitUntil(async () => {
    await callTools();
    return app.listOfferedTools().includes("hanging_look");
  });
}, 60_000);

test("a conversation has only its selected tools, and its answers never wait for servers whose tools aren't selected", async () => {
  const healthyServer = startServer("2026");
  const hangingServer = startServer("2025");
  let isListAborted = false;
  hangingServer.state.intercept = ({ signal }) => {
    signal.addEventListener("abort", () => {
      isListAborted = true;
    });
    return hangForever();
  };
  const app = await startApp({ MCP_SERVERS: `hanging=${hangingServer.url},healthy=${healthyServer.url}` });
  const anna = await app.parley.register();
  app.provider.script("one", { text: "Done." });
  const requestAnswer = async (tools: boolean | string[]) =>
    app.requestAnswer(anna, await app.createConversation(anna, [], tools));
  // The hanging server's tools are listed once at startup, and could be listed again after this delay.
  await waitUntil(() => isListAborted);
  await Bun.sleep(BACKOFF_MIN_MS);
  for (const [tools, expected] of [
    [["healthy_look", "removed_look"], ["healthy_look"]],
    [["search_documents"], ["search_documents"]],
    [[], []],
    [false, []],
  ] as const) {
    await requestAnswer(tools === false ? tools : [...tools]);
    expect(app.listOfferedTools()).toEqual([...expected]);
  }
  expect(hangingServer.requests.length).toBe(1);
  await requestAnswer(["hanging_look"]);
  expect(hangingServer.requests.length).toBe(2);
  // If the model calls a tool that is not offered, it receives an error, and nothing runs.
  app.provider.script("one", { toolCalls: [{ name: "healthy_look", arguments: "{}" }] }, { text: "Done." });
  const [answer, result] = await requestAnswer(["search_documents"]);
  expect(result).toMatchObject({ content: "Error: This tool is not available.", metadata: { is_error: true } });
  expect(answer?.content).toBe("Done.");
  expect(healthyServer.calls).toEqual([]);
});

test.each(revisions)("the model receives an error if a server fails after listing its tools (%s)", async (revision) => {
  const mcp = startServer(revision);
  const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}` });
  const { callTools } = await createToolUser(app);
  expect(await callTools("wiki_look")).toEqual(["Found."]);
  mcp.state.intercept = () => new Response("<h1>Bad gateway</h1>", { status: 502 });
  expect(await callTools("wiki_look")).toEqual(["Error: the tool failed."]);
  expect(mcp.calls.length).toBe(1);
  mcp.state.intercept = () => null;
  await waitUntil(async () => (await callTools("wiki_look"))[0] === "Found.");
});

test.each([404, 400])(
  "a session that the server has lost (%i) is recreated, and the call is made once",
  async (status) => {
    const mcp = startServer("2025");
    const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}` });
    const { callTools } = await createToolUser(app);
    expect(await callTools("wiki_look")).toEqual(["Found."]);
    const [lostSession] = mcp.sessions.keys();
    mcp.state.unknownSessionStatus = status;
    mcp.sessions.clear();
    expect(await callTools("wiki_look")).toEqual(["Found."]);
    expect(mcp.calls.map(({ session }) => session === lostSession)).toEqual([true, false]);
  },
);

test.each(revisions)(
  "a call that times out is cancelled at the server, while other calls continue (%s)",
  async (revision) => {
    let isAborted = false;
    const slowTool: TestTool = {
      name: "slow",
      run: (_, __, signal) => {
        signal.addEventListener("abort", () => {
          isAborted = true;
        });
        return hangForever();
      },
    };
    const mcp = startServer(revision, [lookTool, slowTool]);
    const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}`, MCP_WIKI_TIMEOUT_MS: "1500" });
    const [firstUser, secondUser] = await Promise.all([createToolUser(app), createToolUser(app)]);
    app.provider.script("one", { toolCalls: [{ name: "wiki_slow", arguments: "{}" }] }, { text: "Done." });
    const slowAnswer = app.requestAnswer(firstUser.account, firstUser.conversationId);
    await waitUntil(() => mcp.calls.length === 1);
    app.provider.script("two", { toolCalls: [{ name: "wiki_look", arguments: "{}" }] }, { text: "Done." });
    const [, result] = await app.requestAnswer(secondUser.account, secondUser.conversationId, {
      model: "compatible/two",
    });
    expect(result?.content).toBe("Found.");
    expect((await slowAnswer)[1]?.content).toBe("Error: The tool did not respond within 2 seconds.");
    await waitUntil(() => isAborted);
    // The same connection is used again.
    const connectMethod = revision === "2025" ? "initialize" : "server/discover";
    app.provider.script("one", { toolCalls: [{ name: "wiki_look", arguments: "{}" }] }, { text: "Done." });
    expect((await app.requestAnswer(firstUser.account, firstUser.conversationId))[1]?.content).toBe("Found.");
    expect(mcp.requests.filter(({ rpcMethod }) => rpcMethod === connectMethod).length).toBe(1);
    expect(mcp.sessions.size).toBe(revision === "2025" ? 1 : 0);
  },
);

test.each(revisions)("stopping an answer cancels its call at the server (%s)", async (revision) => {
  let isAborted = false;
  const slowTool: TestTool = {
    name: "slow",
    run: (_, __, signal) => {
      signal.addEventListener("abort", () => {
        isAborted = true;
      });
      return hangForever();
    },
  };
  const mcp = startServer(revision, [slowTool]);
  const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}` });
  const { account, conversationId } = await createToolUser(app);
  app.provider.script("one", { toolCalls: [{ name: "wiki_slow", arguments: "{}" }] }, { text: "Done." });
  const pendingAnswer = app.requestAnswer(account, conversationId);
  await waitUntil(() => mcp.calls.length === 1);
  const path = `/api/v1/conversations/${conversationId}/messages`;
  const page = await app.parley.fetch(path, { token: account.access_token });
  const { data } = (await page.json()) as { data: { id: string }[] };
  await app.parley.fetch(`${path}/${data.at(-1)?.id}/cancel`, { token: account.access_token, method: "POST" });
  expect((await pendingAnswer)[0]).toMatchObject({ status: "cancelled" });
  await waitUntil(() => isAborted);
});

test.each(revisions)("a result of 5 MB is rejected, and a result of 1 MB is truncated (%s)", async (revision) => {
  const createSizedTool = (name: string, chars: number): TestTool => ({
    name,
    run: () => createTextResult("x".repeat(chars)),
  });
  const mcp = startServer(revision, [
    createSizedTool("huge", 5 * 1024 * 1024),
    createSizedTool("large", 1024 * 1024),
    lookTool,
  ]);
  const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}` });
  const { callTools } = await createToolUser(app);
  const [huge, large, small] = await callTools("wiki_huge", "wiki_large", "wiki_look");
  expect(huge).toBe("Error: The result is larger than 4 MiB.");
  expect(large).toEndWith("x\n(The rest was cut off.)");
  expect(large?.length).toBe(20_000);
  expect(small).toBe("Found.");
  expect(mcp.calls.length).toBe(3);
});

test("endless tool lists are truncated, invalid tools are left out, and duplicate names are made unique", async () => {
  const manyTools = Array.from({ length: 200 }, (_, index) => ({ name: `t${index}` }));
  const endlessServer = startMcpServer({ revision: "2025", tools: manyTools, isPaginated: true });
  cleanups.push(endlessServer.stop);
  const oddServer = startServer("2025", [
    { name: "a.b", run: () => createTextResult("dot") },
    { name: "a_b", run: () => createTextResult("underscore") },
    { name: "a-ü", run: () => createTextResult("umlaut") },
    { name: "no schema", inputSchema: { type: "string" } },
    { name: "ref", inputSchema: { type: "object", properties: { x: { $ref: "https://example.com/x" } } } },
    {
      name: "list",
      inputSchema: { type: "object", anyOf: [{ required: ["x"] }], properties: { x: { type: "array" } } },
    },
  ]);
  const app = await startApp({ MCP_SERVERS: `many=${endlessServer.url},odd=${oddServer.url}` });
  const { callTools } = await createToolUser(app);
  await callTools();
  const names = app.listOfferedTools();
  // Only the maximum number of pages is read.
  expect(names.filter((name) => name.startsWith("many_")).length).toBe(16);
  const [dottedName] = names.filter((name) => name.startsWith("odd_a_b_"));
  expect(names.filter((name) => name.startsWith("odd_"))).toEqual([dottedName ?? "", "odd_a_b", "odd_a-_", "odd_list"]);
  expect(await callTools(dottedName ?? "", "odd_a_b", "odd_a-_")).toEqual(["dot", "underscore", "umlaut"]);
  const tools = app.provider.requests.at(-1)?.body.tools as { function: { name: string; parameters: unknown } }[];
  expect(tools.find((tool) => tool.function.name === "odd_list")?.function.parameters).toEqual({
    type: "object",
    properties: { x: { type: "array", items: {} } },
  });
});
