import { afterEach, expect, test } from "bun:test";
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js";
import { CallToolRequestSchema, ListToolsRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { ConfigError, loadConfig, printConfig } from "../../src/config.ts";
import type { Message } from "../../src/protocol/message.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type ProviderStandIn, startProviderStandIn } from "../support/provider-stand-in/server.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

type Fault = "hangs" | "fails";

/** An MCP server with two tools, one of which fails. */
function startMcpServer(): { url: string; calls: unknown[]; fault: Fault | null } {
  const state: { url: string; calls: unknown[]; fault: Fault | null } = { url: "", calls: [], fault: null };
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch(request) {
      if (state.fault === "hangs") await new Promise(() => {});
      if (state.fault === "fails") return new Response("<h1>Bad gateway</h1>", { status: 502 });
      if (request.method !== "POST") return new Response(null, { status: 405 });
      const mcp = new Server({ name: "test", version: "1" }, { capabilities: { tools: {} } });
      const inputSchema = { type: "object" as const, properties: { city: { type: "string" } } };
      mcp.setRequestHandler(ListToolsRequestSchema, async () => ({
        tools: [
          { name: "get.weather", description: "The weather of a city.", inputSchema },
          { name: "broken", inputSchema: { type: "object" as const } },
        ],
      }));
      mcp.setRequestHandler(CallToolRequestSchema, async ({ params }) => {
        state.calls.push(params);
        if (params.name === "broken") return { content: [{ type: "text", text: "Out of order." }], isError: true };
        return {
          content: [
            { type: "text", text: `Sunny in ${params.arguments?.city}.` },
            { type: "image", data: "aGk=", mimeType: "image/png" },
          ],
        };
      });
      const transport = new WebStandardStreamableHTTPServerTransport();
      await mcp.connect(transport);
      return transport.handleRequest(request);
    },
  });
  cleanups.push(() => server.stop(true));
  state.url = `http://127.0.0.1:${server.port}/mcp`;
  return state;
}

async function start(
  servers: string,
): Promise<{ provider: ProviderStandIn; parley: TestApp; ask(): Promise<Message[]> }> {
  const provider = startProviderStandIn();
  cleanups.push(() => provider.stop());
  const parley = await startApp({
    config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/one", MCP_SERVERS: servers },
  });
  cleanups.push(() => parley.stop());
  const { access_token: token } = await parley.register();
  const anna = { access_token: token } as Awaited<ReturnType<TestApp["register"]>>;
  const { id } = await createConversation(parley, anna, [], { title: "MCP", tools: true });
  const path = `/api/v1/conversations/${id}/messages`;
  return {
    provider,
    parley,
    /** Asks, waits for the end of the answer, and gives all messages. */
    async ask() {
      const headers = { accept: "text/event-stream" };
      await (await parley.fetch(path, { token, json: { content: "The weather?", reply: true }, headers })).text();
      return ((await (await parley.fetch(path, { token })).json()) as { data: Message[] }).data;
    },
  };
}

const offered = (provider: ProviderStandIn) =>
  (provider.requests.at(-1)?.body.tools as { function: { name: string } }[] | undefined)?.map(
    (tool) => tool.function.name,
  );

test("the tools of a server are offered under its name, and called", async () => {
  const mcp = startMcpServer();
  const { provider, ask } = await start(`wiki=${mcp.url}`);
  provider.script(
    "one",
    {
      toolCalls: [
        { name: "wiki_get_weather", arguments: '{"city":"Rome"}' },
        { name: "wiki_broken", arguments: "{}" },
      ],
    },
    { text: "It is sunny." },
  );
  const [, answer, weather, broken] = await ask();
  expect(offered(provider)).toEqual(["search_documents", "wiki_get_weather", "wiki_broken"]);
  expect(mcp.calls).toMatchObject([
    { name: "get.weather", arguments: { city: "Rome" } },
    { name: "broken", arguments: {} },
  ]);
  expect(weather).toMatchObject({ content: "Sunny in Rome.\n(image left out)", metadata: { is_error: false } });
  expect(broken).toMatchObject({ content: "Error: Out of order.", metadata: { is_error: true } });
  expect(answer).toMatchObject({ content: "It is sunny.", status: "complete" });
});

test("a server that is away costs its tools, and not the answer", async () => {
  const { provider, ask } = await start("gone=http://127.0.0.1:9/mcp");
  provider.script("one", { text: "No weather." });
  expect((await ask())[1]).toMatchObject({ content: "No weather.", status: "complete" });
  expect(offered(provider)).toEqual(["search_documents"]);
});

test("one that goes away between list and call is an error that the model is told", async () => {
  const mcp = startMcpServer();
  const { provider, ask } = await start(`wiki=${mcp.url}`);
  provider.script("one", { text: "Hello." });
  await ask();
  mcp.fault = "fails";
  provider.script("one", { toolCalls: [{ name: "wiki_get_weather", arguments: "{}" }] }, { text: "Sorry." });
  const messages = await ask();
  const tool = messages.find(({ role }) => role === "tool");
  expect(tool).toMatchObject({ content: "Error: the tool failed.", metadata: { is_error: true } });
  expect(messages.at(-2)).toMatchObject({ role: "assistant", content: "Sorry.", status: "complete" });
});

test("one that never answers holds the first answer for some seconds only", async () => {
  const mcp = startMcpServer();
  mcp.fault = "hangs";
  const { provider, ask } = await start(`slow=${mcp.url}`);
  provider.script("one", { text: "At last." });
  const startedMs = performance.now();
  expect((await ask())[1]).toMatchObject({ content: "At last." });
  expect(performance.now() - startedMs).toBeLessThan(8_000);
  const againMs = performance.now();
  await ask();
  expect(performance.now() - againMs).toBeLessThan(2_000);
}, 20_000);

test("the setting is checked, and printed without the secrets of its addresses", () => {
  const load = (value: string) => loadConfig({ MCP_SERVERS: value }, () => "");
  const printed = printConfig(load("wiki=https://user:pass@mcp.example.com/mcp?key=abc,b=https://b.example/mcp"));
  expect(printed).toContain(
    "MCP_SERVERS=wiki=https://********@mcp.example.com/mcp?key=********,b=https://b.example/mcp",
  );
  expect(load("").MCP_SERVERS).toEqual([]);
  for (const wrong of ["wiki", "wiki=ftp://x", "Wiki=http://x", "a_b=http://x", "a=http://x,a=http://y"])
    expect(() => load(wrong)).toThrow(ConfigError);
});
