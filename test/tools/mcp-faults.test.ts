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
const look: TestTool = { name: "look", run: () => createTextResult("Found.") };
const hang = () => new Promise<never>(() => {});

function start(revision: (typeof revisions)[number], tools: TestTool[] = [look]): McpServer {
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
  const anna = await app.parley.register();
  const id = await app.createConversation(anna, [], true);
  return {
    id,
    anna,
    /** Requests an answer that calls these tools, and returns their results. */
    async callTools(...names: string[]) {
      const toolCalls = names.map((name) => ({ name, arguments: "{}" }));
      if (names.length > 0) app.provider.script("one", { toolCalls }, { text: "Done." });
      else app.provider.script("one", { text: "Done." });
      const [answer, ...results] = await app.requestAnswer(anna, id);
      expect(answer).toMatchObject({ content: "Done.", status: "complete" });
      return results.map(({ content }) => content);
    },
  };
}

test("the tools of an unreachable or hanging server are missing, without affecting the answer or other servers", async () => {
  const healthy = start("2026");
  const hanging = start("2025");
  hanging.state.intercept = hang;
  const app = await startApp({
    MCP_SERVERS: `gone=http://127.0.0.1:9/mcp,healthy=${healthy.url},hanging=${hanging.url}`,
  });
  const { callTools } = await createToolUser(app);
  expect(await callTools("healthy_look")).toEqual(["Found."]);
  expect(app.listOfferedTools()).toEqual(["search_documents", "healthy_look"]);
  // The first answer waits until the servers have listed their tools. Later answers refresh the lists in the background.
  hanging.state.intercept = () => null;
  await waitUntil(async () => {
    await callTools();
    return app.listOfferedTools().includes("hanging_look");
  });
}, 60_000);

test("a conversation has only its selected tools, and its answers never wait for other servers", async () => {
  const healthy = start("2026");
  const hanging = start("2025");
  let isListAborted = false;
  hanging.state.intercept = ({ signal }) => {
    signal.addEventListener("abort", () => {
      isListAborted = true;
    });
    return hang();
  };
  const app = await startApp({ MCP_SERVERS: `hanging=${hanging.url},healthy=${healthy.url}` });
  const anna = await app.parley.register();
  app.provider.script("one", { text: "Done." });
  const requestAnswer = async (tools: boolean | string[]) =>
    app.requestAnswer(anna, await app.createConversation(anna, [], tools));
  // The hanging server's tools are listed once at startup, and could be listed again after this delay.
  await waitUntil(() => isListAborted);
  await Bun.sleep(BACKOFF_MIN_MS);
  for (const [tools, expected] of [
    [["healthy_look", "gone_look"], ["healthy_look"]],
    [["search_documents"], ["search_documents"]],
    [[], []],
    [false, []],
  ] as const) {
    await requestAnswer(tools === false ? tools : [...tools]);
    expect(app.listOfferedTools()).toEqual([...expected]);
  }
  expect(hanging.requests.length).toBe(1);
  await requestAnswer(["hanging_look"]);
  expect(hanging.requests.length).toBe(2);
  // If the model calls a tool that is not offered, it gets an error, and nothing runs.
  app.provider.script("one", { toolCalls: [{ name: "healthy_look", arguments: "{}" }] }, { text: "Done." });
  const [answer, result] = await requestAnswer(["search_documents"]);
  expect(result).toMatchObject({ content: "Error: This tool is not available.", metadata: { is_error: true } });
  expect(answer?.content).toBe("Done.");
  expect(healthy.calls).toEqual([]);
});

test.each(revisions)("the model gets an error if a server fails after listing its tools (%s)", async (revision) => {
  const mcp = start(revision);
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
    const mcp = start("2025");
    const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}` });
    const { callTools } = await createToolUser(app);
    expect(await callTools("wiki_look")).toEqual(["Found."]);
    const [before] = mcp.sessions.keys();
    mcp.state.unknownSessionStatus = status;
    mcp.sessions.clear();
    expect(await callTools("wiki_look")).toEqual(["Found."]);
    expect(mcp.calls.map(({ session }) => session === before)).toEqual([true, false]);
  },
);

test.each(revisions)(
  "a call that times out is cancelled at the server, while other calls continue (%s)",
  async (revision) => {
    let isAborted = false;
    const slow: TestTool = {
      name: "slow",
      run: (_, __, signal) => {
        signal.addEventListener("abort", () => {
          isAborted = true;
        });
        return hang();
      },
    };
    const mcp = start(revision, [look, slow]);
    const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}`, MCP_WIKI_TIMEOUT_MS: "1500" });
    const [first, second] = await Promise.all([createToolUser(app), createToolUser(app)]);
    app.provider.script("one", { toolCalls: [{ name: "wiki_slow", arguments: "{}" }] }, { text: "Done." });
    const slowAnswer = app.requestAnswer(first.anna, first.id);
    await waitUntil(() => mcp.calls.length === 1);
    app.provider.script("two", { toolCalls: [{ name: "wiki_look", arguments: "{}" }] }, { text: "Done." });
    const [, result] = await app.requestAnswer(second.anna, second.id, { model: "compatible/two" });
    expect(result?.content).toBe("Found.");
    expect((await slowAnswer)[1]?.content).toBe("Error: The tool did not respond within 2 seconds.");
    await waitUntil(() => isAborted);
    // The same connection is used again.
    const connectMethod = revision === "2025" ? "initialize" : "server/discover";
    app.provider.script("one", { toolCalls: [{ name: "wiki_look", arguments: "{}" }] }, { text: "Done." });
    expect((await app.requestAnswer(first.anna, first.id))[1]?.content).toBe("Found.");
    expect(mcp.requests.filter(({ rpcMethod }) => rpcMethod === connectMethod).length).toBe(1);
    expect(mcp.sessions.size).toBe(revision === "2025" ? 1 : 0);
  },
);

test.each(revisions)("stopping an answer cancels its call at the server (%s)", async (revision) => {
  let isAborted = false;
  const slow: TestTool = {
    name: "slow",
    run: (_, __, signal) => {
      signal.addEventListener("abort", () => {
        isAborted = true;
      });
      return hang();
    },
  };
  const mcp = start(revision, [slow]);
  const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}` });
  const { anna, id } = await createToolUser(app);
  app.provider.script("one", { toolCalls: [{ name: "wiki_slow", arguments: "{}" }] }, { text: "Done." });
  const answering = app.requestAnswer(anna, id);
  await waitUntil(() => mcp.calls.length === 1);
  const path = `/api/v1/conversations/${id}/messages`;
  const page = await app.parley.fetch(path, { token: anna.access_token });
  const { data } = (await page.json()) as { data: { id: string }[] };
  await app.parley.fetch(`${path}/${data.at(-1)?.id}/cancel`, { token: anna.access_token, method: "POST" });
  expect((await answering)[0]).toMatchObject({ status: "cancelled" });
  await waitUntil(() => isAborted);
});

test.each(revisions)("a result of 5 MB is refused, and one of 1 MB is truncated (%s)", async (revision) => {
  const createSizedTool = (name: string, chars: number): TestTool => ({
    name,
    run: () => createTextResult("x".repeat(chars)),
  });
  const mcp = start(revision, [createSizedTool("huge", 5 * 1024 * 1024), createSizedTool("large", 1024 * 1024), look]);
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
  const many = Array.from({ length: 200 }, (_, index) => ({ name: `t${index}` }));
  const endless = startMcpServer({ revision: "2025", tools: many, isPaginated: true });
  cleanups.push(endless.stop);
  const odd = start("2025", [
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
  const app = await startApp({ MCP_SERVERS: `many=${endless.url},odd=${odd.url}` });
  const { callTools } = await createToolUser(app);
  await callTools();
  const names = app.listOfferedTools();
  // Only the maximum number of pages is read.
  expect(names.filter((name) => name.startsWith("many_")).length).toBe(16);
  const [dotted] = names.filter((name) => name.startsWith("odd_a_b_"));
  expect(names.filter((name) => name.startsWith("odd_"))).toEqual([dotted ?? "", "odd_a_b", "odd_a-_", "odd_list"]);
  expect(await callTools(dotted ?? "", "odd_a_b", "odd_a-_")).toEqual(["dot", "underscore", "umlaut"]);
  const tools = app.provider.requests.at(-1)?.body.tools as { function: { name: string; parameters: unknown } }[];
  expect(tools.find((tool) => tool.function.name === "odd_list")?.function.parameters).toEqual({
    type: "object",
    properties: { x: { type: "array", items: {} } },
  });
});
