import { afterEach, expect, test } from "bun:test";
import { ConfigError, formatConfig, loadConfig } from "../../src/config.ts";
import { type McpServer, startMcpServer, type TestTool } from "../support/mcp-server.ts";
import { waitUntil } from "../support/wait-until.ts";
import { startWithMcp, type ToolApp } from "./start-with-mcp.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function startServer(options: Parameters<typeof startMcpServer>[0]): McpServer {
  const server = startMcpServer(options);
  cleanups.push(server.stop);
  return server;
}

async function startApp(config: Record<string, string>): Promise<ToolApp> {
  const app = await startWithMcp(config);
  cleanups.push(app.stop);
  return app;
}

const createTextResult = (content: string) => ({ content: [{ type: "text", text: content }] });
const weatherTool = {
  name: "get.weather",
  description: "Returns the weather in a city.",
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
const brokenTool = { name: "broken", run: () => ({ ...createTextResult("Out of order."), isError: true }) };

test.each(["2026", "2025"] as const)(
  "the tools of an MCP server (revision %s) are offered with the server's name as a prefix, and can be called",
  async (revision) => {
    const mcp = startServer({ revision, tools: [weatherTool, brokenTool], isPaginated: true });
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
    const [answer, first, second] = await app.requestAnswer(anna, id);
    expect(app.listOfferedTools()).toEqual(["search_documents", "wiki_get_weather", "wiki_broken"]);
    expect(mcp.calls).toMatchObject([
      { name: "get.weather", input: { city: "Rome" }, authorization: null },
      { name: "broken", input: {} },
    ]);
    expect(first).toMatchObject({
      content: "Sunny in Rome.\n(image omitted)\n(resource Map: https://example.com/map)\nEmbedded.",
      metadata: { is_error: false },
    });
    expect(second).toMatchObject({ content: "Error: Out of order.", metadata: { is_error: true } });
    expect(answer).toMatchObject({ content: "It is sunny.", status: "complete" });
    // Revision 2025 has one session for all users, and revision 2026 has none.
    expect(mcp.sessions.size).toBe(revision === "2025" ? 1 : 0);
    expect(mcp.requests.some(({ rpcMethod }) => rpcMethod === "initialize")).toBe(revision === "2025");
  },
);

test("a change to a server's tools takes effect as soon as the server announces it", async () => {
  for (const revision of ["2026", "2025"] as const) {
    const mcp = startServer({ revision, tools: [weatherTool] });
    const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}` });
    const anna = await app.parley.register();
    const id = await app.createConversation(anna, [], true);
    app.provider.script("one", { text: "Hello." });
    await app.requestAnswer(anna, id);
    expect(app.listOfferedTools()).toContain("wiki_get_weather");
    const listenRequest = revision === "2025" ? { method: "GET" } : { rpcMethod: "subscriptions/listen" };
    await waitUntil(() => mcp.requests.some((request) => Bun.deepMatch(listenRequest, request)));
    mcp.state.tools = [brokenTool];
    // Repeats the announcement, because it may be ignored while the tools are being listed.
    await waitUntil(async () => {
      await mcp.notifyToolsChanged();
      await app.requestAnswer(anna, id);
      return app.listOfferedTools().includes("wiki_broken");
    });
    expect(app.listOfferedTools()).toEqual(["search_documents", "wiki_broken"]);
  }
}, 60_000);

test("the model receives an error if a result requests user input", async () => {
  const requestInput = {
    name: "request_input",
    run: () => ({ resultType: "input_required", requestState: "s", inputRequests: {} }) as never,
  };
  const mcp = startServer({ revision: "2026", tools: [requestInput] });
  const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}` });
  const anna = await app.parley.register();
  const id = await app.createConversation(anna, [], true);
  app.provider.script("one", { toolCalls: [{ name: "wiki_request_input", arguments: "{}" }] }, { text: "Sorry." });
  const [answer, result] = await app.requestAnswer(anna, id);
  expect(result).toMatchObject({
    content: "Error: The tool requested user input, which is not supported here.",
    metadata: { is_error: true },
  });
  expect(answer?.content).toBe("Sorry.");
  expect(mcp.calls.length).toBe(1);
});

test("requests for elicitation, sampling or roots from a server with revision 2025 are rejected", async () => {
  const outcomes: unknown[] = [];
  const requests: [string, Record<string, unknown>][] = [
    ["elicitation/create", { message: "Your password?", requestedSchema: { type: "object", properties: {} } }],
    ["sampling/createMessage", { messages: [], maxTokens: 10 }],
    ["roots/list", {}],
  ];
  const requestInput: TestTool = {
    name: "request_input",
    async run(_, __, ___, request) {
      for (const [method, params] of requests)
        outcomes.push(
          await request(method, params).then(
            () => "accepted",
            (error: { code: number }) => error.code,
          ),
        );
      return createTextResult("Continued without input.");
    },
  };
  const mcp = startServer({ revision: "2025", tools: [requestInput] });
  const app = await startApp({ MCP_SERVERS: `wiki=${mcp.url}` });
  const anna = await app.parley.register();
  const id = await app.createConversation(anna, [], true);
  app.provider.script("one", { toolCalls: [{ name: "wiki_request_input", arguments: "{}" }] }, { text: "Done." });
  const [, result] = await app.requestAnswer(anna, id);
  expect(result?.content).toBe("Continued without input.");
  expect(outcomes).toEqual([-32601, -32601, -32601]);
});

test("MCP_SERVERS is validated, and printed without the secrets in its URLs", () => {
  const loadServers = (value: string) => loadConfig({ MCP_SERVERS: value }, () => "");
  const printedConfig = formatConfig(
    loadServers("wiki=https://user:pass@mcp.example.com/mcp?key=abc,b=https://b.example/mcp"),
  );
  expect(printedConfig).toContain(
    "MCP_SERVERS=wiki=https://********@mcp.example.com/mcp?key=********,b=https://b.example/mcp",
  );
  expect(loadServers("").MCP_SERVERS).toEqual([]);
  for (const invalid of ["wiki", "wiki=ftp://x", "Wiki=http://x", "a_b=http://x", "a=http://x,a=http://y"])
    expect(() => loadServers(invalid)).toThrow(ConfigError);
});
