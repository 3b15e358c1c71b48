import { afterEach, expect, test } from "bun:test";
import { ConfigError, formatConfig, loadConfig } from "../../src/config.ts";
import { type McpServer, type ServedTool, startMcpServer } from "../support/mcp-server.ts";
import { waitUntil } from "../support/wait-until.ts";
import { startWithMcp, type ToolApp } from "./start-with-mcp.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function start(options: Parameters<typeof startMcpServer>[0]): McpServer {
  const server = startMcpServer(options);
  cleanups.push(server.stop);
  return server;
}

async function startApp(config: Record<string, string>): Promise<ToolApp> {
  const app = await startWithMcp(config);
  cleanups.push(app.stop);
  return app;
}

const text = (content: string) => ({ content: [{ type: "text", text: content }] });
const weather = {
  name: "get.weather",
  description: "The weather of a city.",
  inputSchema: { type: "object", properties: { city: { type: "string" } } },
  run: ({ city }: Record<string, unknown>) => ({
    content: [
      { type: "text", text: `Sunny in ${city}.` },
      { type: "image", data: "aGk=", mimeType: "image/png" },
      { type: "resource_link", uri: "https://example.com/map", name: "Map" },
      { type: "resource", resource: { uri: "a:b", text: "Embedded." } },
    ],
  }),
};
const broken = { name: "broken", run: () => ({ ...text("Out of order."), isError: true }) };

test.each(["2026", "2025"] as const)(
  "tools of a server of revision %s are offered under its name, and can be called",
  async (revision) => {
    const mcp = start({ revision, tools: [weather, broken], isPaged: true });
    const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}` });
    const anna = await app.parley.register();
    const id = await app.createConversation(anna, [], true);
    app.provider.script(
      "one",
      {
        toolCalls: [
          { name: "wiki_get_weather", arguments: '{"city":"Rome"}' },
          { name: "wiki_broken", arguments: "{}" },
        ],
      },
      { text: "It is sunny." },
    );
    const [answer, first, second] = await app.ask(anna, id);
    expect(app.offered()).toEqual(["search_documents", "wiki_get_weather", "wiki_broken"]);
    expect(mcp.calls).toMatchObject([
      { name: "get.weather", input: { city: "Rome" }, authorization: null },
      { name: "broken", input: {} },
    ]);
    expect(first).toMatchObject({
      content: "Sunny in Rome.\n(image left out)\n(resource Map: https://example.com/map)\nEmbedded.",
      metadata: { is_error: false },
    });
    expect(second).toMatchObject({ content: "Error: Out of order.", metadata: { is_error: true } });
    expect(answer).toMatchObject({ content: "It is sunny.", status: "complete" });
    // 2025: one session for all; 2026: no sessions.
    expect(mcp.sessions.size).toBe(revision === "2025" ? 1 : 0);
    expect(mcp.requests.some(({ rpc }) => rpc === "initialize")).toBe(revision === "2025");
  },
);

test("a change of tools announced by the server takes effect at once", async () => {
  for (const revision of ["2026", "2025"] as const) {
    const mcp = start({ revision, tools: [weather] });
    const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}` });
    const anna = await app.parley.register();
    const id = await app.createConversation(anna, [], true);
    app.provider.script("one", { text: "Hello." });
    await app.ask(anna, id);
    expect(app.offered()).toContain("wiki_get_weather");
    const opened = revision === "2025" ? { method: "GET" } : { rpc: "subscriptions/listen" };
    await waitUntil(() => mcp.requests.some((request) => Bun.deepMatch(opened, request)));
    mcp.state.tools = [broken];
    // The list is no longer fresh, so each announcement may trigger a listing.
    await waitUntil(async () => {
      await mcp.announceChange();
      await app.ask(anna, id);
      return app.offered().includes("wiki_broken");
    });
    expect(app.offered()).toEqual(["search_documents", "wiki_broken"]);
  }
}, 60_000);

test("a result that requests input is an error for the model", async () => {
  const asks = {
    name: "ask",
    run: () => ({ resultType: "input_required", requestState: "s", inputRequests: {} }) as never,
  };
  const mcp = start({ revision: "2026", tools: [asks] });
  const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}` });
  const anna = await app.parley.register();
  const id = await app.createConversation(anna, [], true);
  app.provider.script("one", { toolCalls: [{ name: "wiki_ask", arguments: "{}" }] }, { text: "Sorry." });
  const [answer, result] = await app.ask(anna, id);
  expect(result).toMatchObject({
    content: "Error: The tool requested user input, which is not supported here.",
    metadata: { is_error: true },
  });
  expect(answer?.content).toBe("Sorry.");
  expect(mcp.calls.length).toBe(1);
});

test("a 2025 server's requests for elicitation, sampling or roots are refused", async () => {
  const refusals: unknown[] = [];
  const requests: [string, Record<string, unknown>][] = [
    ["elicitation/create", { message: "Your password?", requestedSchema: { type: "object", properties: {} } }],
    ["sampling/createMessage", { messages: [], maxTokens: 10 }],
    ["roots/list", {}],
  ];
  const asks: ServedTool = {
    name: "ask",
    async run(_, __, ___, ask) {
      for (const [method, params] of requests)
        refusals.push(
          await ask(method, params).then(
            () => "answered",
            (error: { code: number }) => error.code,
          ),
        );
      return text("Went on without.");
    },
  };
  const mcp = start({ revision: "2025", tools: [asks] });
  const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}` });
  const anna = await app.parley.register();
  const id = await app.createConversation(anna, [], true);
  app.provider.script("one", { toolCalls: [{ name: "wiki_ask", arguments: "{}" }] }, { text: "Done." });
  const [, result] = await app.ask(anna, id);
  expect(result?.content).toBe("Went on without.");
  expect(refusals).toEqual([-32601, -32601, -32601]);
});

test("the setting is validated, and printed without the secrets of its addresses", () => {
  const load = (value: string) => loadConfig({ MCP_SERVERS: value }, () => "");
  const printed = formatConfig(load("wiki=https://user:pass@mcp.example.com/mcp?key=abc,b=https://b.example/mcp"));
  expect(printed).toContain(
    "MCP_SERVERS=wiki=https://********@mcp.example.com/mcp?key=********,b=https://b.example/mcp",
  );
  expect(load("").MCP_SERVERS).toEqual([]);
  for (const wrong of ["wiki", "wiki=ftp://x", "Wiki=http://x", "a_b=http://x", "a=http://x,a=http://y"])
    expect(() => load(wrong)).toThrow(ConfigError);
});
