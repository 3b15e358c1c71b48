import { afterEach, expect, test } from "bun:test";
import { BACKOFF_MIN_MS } from "../../src/modules/tools/mcp/limits.ts";
import { type McpServer, type ServedTool, startMcpServer } from "../support/mcp-server.ts";
import { waitUntil } from "../support/wait-until.ts";
import { startWithMcp, type ToolApp } from "./start-with-mcp.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const revisions = ["2026", "2025"] as const;
const text = (content: string) => ({ content: [{ type: "text", text: content }] });
const look: ServedTool = { name: "look", run: () => text("Found.") };
const hang = () => new Promise<never>(() => {});

function start(revision: (typeof revisions)[number], tools: ServedTool[] = [look]): McpServer {
  const server = startMcpServer({ revision, tools });
  cleanups.push(server.stop);
  return server;
}

async function startApp(config: Record<string, string>): Promise<ToolApp> {
  const app = await startWithMcp(config);
  cleanups.push(app.stop);
  return app;
}

/** A conversation with all tools, in which the model makes these calls in order, then ends. */
async function createAsker(app: ToolApp) {
  const anna = await app.parley.register();
  const id = await app.createConversation(anna, [], true);
  return {
    id,
    anna,
    async ask(...names: string[]) {
      const toolCalls = names.map((name) => ({ name, arguments: "{}" }));
      if (names.length > 0) app.provider.script("one", { toolCalls }, { text: "Done." });
      else app.provider.script("one", { text: "Done." });
      const [answer, ...results] = await app.ask(anna, id);
      expect(answer).toMatchObject({ content: "Done.", status: "complete" });
      return results.map(({ content }) => content);
    },
  };
}

test("an unreachable server and a hanging one lose their tools, without affecting the answer or other servers", async () => {
  const healthy = start("2026");
  const hanging = start("2025");
  hanging.state.intercept = hang;
  const app = await startApp({
    MCP_SERVERS: `gone=http://127.0.0.1:9/mcp,healthy=${healthy.url},hanging=${hanging.url}`,
  });
  const { ask } = await createAsker(app);
  expect(await ask("healthy_look")).toEqual(["Found."]);
  expect(app.offered()).toEqual(["search_documents", "healthy_look"]);
  // The first answer waits for them; later ones refresh the list in the background.
  hanging.state.intercept = () => null;
  await waitUntil(async () => {
    await ask();
    return app.offered().includes("hanging_look");
  });
}, 60_000);

test("a conversation has only the tools that it names, and its answers never wait for other servers", async () => {
  const healthy = start("2026");
  const hanging = start("2025");
  let isGivenUp = false;
  hanging.state.intercept = ({ signal }) => {
    signal.addEventListener("abort", () => {
      isGivenUp = true;
    });
    return hang();
  };
  const app = await startApp({ MCP_SERVERS: `hanging=${hanging.url},healthy=${healthy.url}` });
  const anna = await app.parley.register();
  app.provider.script("one", { text: "Done." });
  const ask = async (tools: boolean | string[]) => app.ask(anna, await app.createConversation(anna, [], tools));
  // It is listed once at startup. After that it could be listed again.
  await waitUntil(() => isGivenUp);
  await Bun.sleep(BACKOFF_MIN_MS);
  for (const [tools, expected] of [
    [["healthy_look", "gone_look"], ["healthy_look"]],
    [["search_documents"], ["search_documents"]],
    [[], []],
    [false, []],
  ] as const) {
    await ask(tools === false ? tools : [...tools]);
    expect(app.offered()).toEqual([...expected]);
  }
  expect(hanging.requests.length).toBe(1);
  await ask(["hanging_look"]);
  expect(hanging.requests.length).toBe(2);
  // If a model invents a call, it gets an error, and nothing runs.
  app.provider.script("one", { toolCalls: [{ name: "healthy_look", arguments: "{}" }] }, { text: "Done." });
  const [answer, result] = await ask(["search_documents"]);
  expect(result).toMatchObject({ content: "Error: This tool is not available.", metadata: { is_error: true } });
  expect(answer?.content).toBe("Done.");
  expect(healthy.calls).toEqual([]);
});

test.each(revisions)(
  "a server that disconnects between list and call is an error for the model (%s)",
  async (revision) => {
    const mcp = start(revision);
    const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}` });
    const { ask } = await createAsker(app);
    expect(await ask("wiki_look")).toEqual(["Found."]);
    mcp.state.intercept = () => new Response("<h1>Bad gateway</h1>", { status: 502 });
    expect(await ask("wiki_look")).toEqual(["Error: the tool failed."]);
    expect(mcp.calls.length).toBe(1);
    mcp.state.intercept = () => null;
    await waitUntil(async () => (await ask("wiki_look"))[0] === "Found.");
  },
);

test.each([404, 400])(
  "a session that the server has forgotten (%i) is recreated, and the call is made once",
  async (status) => {
    const mcp = start("2025");
    const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}` });
    const { ask } = await createAsker(app);
    expect(await ask("wiki_look")).toEqual(["Found."]);
    const [before] = mcp.sessions.keys();
    mcp.state.forgottenStatus = status;
    mcp.sessions.clear();
    expect(await ask("wiki_look")).toEqual(["Found."]);
    expect(mcp.calls.map(({ session }) => session === before)).toEqual([true, false]);
  },
);

test.each(revisions)(
  "a call that times out is cancelled at the server, and others continue meanwhile (%s)",
  async (revision) => {
    let isAborted = false;
    const slow: ServedTool = {
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
    const [first, second] = await Promise.all([createAsker(app), createAsker(app)]);
    app.provider.script("one", { toolCalls: [{ name: "wiki_slow", arguments: "{}" }] }, { text: "Done." });
    const slowAnswer = app.ask(first.anna, first.id);
    await waitUntil(() => mcp.calls.length === 1);
    app.provider.script("two", { toolCalls: [{ name: "wiki_look", arguments: "{}" }] }, { text: "Done." });
    const [, result] = await app.ask(second.anna, second.id, { model: "compatible/two" });
    expect(result?.content).toBe("Found.");
    expect((await slowAnswer)[1]?.content).toBe("Error: The tool did not respond within 2 seconds.");
    await waitUntil(() => isAborted);
    // The connection was kept open.
    const connected = revision === "2025" ? "initialize" : "server/discover";
    app.provider.script("one", { toolCalls: [{ name: "wiki_look", arguments: "{}" }] }, { text: "Done." });
    expect((await app.ask(first.anna, first.id))[1]?.content).toBe("Found.");
    expect(mcp.requests.filter(({ rpc }) => rpc === connected).length).toBe(1);
    expect(mcp.sessions.size).toBe(revision === "2025" ? 1 : 0);
  },
);

test.each(revisions)("stopping an answer cancels its call at the server (%s)", async (revision) => {
  let isAborted = false;
  const slow: ServedTool = {
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
  const { anna, id } = await createAsker(app);
  app.provider.script("one", { toolCalls: [{ name: "wiki_slow", arguments: "{}" }] }, { text: "Done." });
  const answering = app.ask(anna, id);
  await waitUntil(() => mcp.calls.length === 1);
  const path = `/api/v1/conversations/${id}/messages`;
  const page = await app.parley.fetch(path, { token: anna.access_token });
  const { data } = (await page.json()) as { data: { id: string }[] };
  await app.parley.fetch(`${path}/${data.at(-1)?.id}/cancel`, { token: anna.access_token, method: "POST" });
  expect((await answering)[0]).toMatchObject({ status: "cancelled" });
  await waitUntil(() => isAborted);
});

test.each(revisions)(
  "results: one of 5 MB is refused at once, one of 1 MB is cut, as JSON and as a stream (%s)",
  async (revision) => {
    const sized = (name: string, chars: number): ServedTool => ({ name, run: () => text("x".repeat(chars)) });
    const mcp = start(revision, [sized("huge", 5 * 1024 * 1024), sized("large", 1024 * 1024), look]);
    const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}` });
    const { ask } = await createAsker(app);
    const [huge, large, small] = await ask("wiki_huge", "wiki_large", "wiki_look");
    expect(huge).toBe("Error: The result is larger than 4 MiB.");
    expect(large).toEndWith("x\n(The rest was cut off.)");
    expect(large?.length).toBe(20_000);
    expect(small).toBe("Found.");
    expect(mcp.calls.length).toBe(3);
  },
);

test("handles endless lists, invalid tools and names that become equal", async () => {
  const many = Array.from({ length: 200 }, (_, index) => ({ name: `t${index}` }));
  const endless = startMcpServer({ revision: "2025", tools: many, isPaged: true });
  cleanups.push(endless.stop);
  const odd = start("2025", [
    { name: "a.b", run: () => text("dot") },
    { name: "a_b", run: () => text("underscore") },
    { name: "a-ü", run: () => text("umlaut") },
    { name: "no schema", inputSchema: { type: "string" } },
    { name: "ref", inputSchema: { type: "object", properties: { x: { $ref: "https://example.com/x" } } } },
    {
      name: "list",
      inputSchema: { type: "object", anyOf: [{ required: ["x"] }], properties: { x: { type: "array" } } },
    },
  ]);
  const app = await startApp({ MCP_SERVERS: `many=${endless.url},odd=${odd.url}` });
  const { ask } = await createAsker(app);
  await ask();
  const names = app.offered();
  // Limited to the maximum number of pages.
  expect(names.filter((name) => name.startsWith("many_")).length).toBe(16);
  const [dotted] = names.filter((name) => name.startsWith("odd_a_b_"));
  expect(names.filter((name) => name.startsWith("odd_"))).toEqual([dotted ?? "", "odd_a_b", "odd_a-_", "odd_list"]);
  expect(await ask(dotted ?? "", "odd_a_b", "odd_a-_")).toEqual(["dot", "underscore", "umlaut"]);
  const tools = app.provider.requests.at(-1)?.body.tools as { function: { name: string; parameters: unknown } }[];
  expect(tools.find((tool) => tool.function.name === "odd_list")?.function.parameters).toEqual({
    type: "object",
    properties: { x: { type: "array", items: {} } },
  });
});
