import { afterEach, expect, test } from "bun:test";
import { startHttpProxy } from "../support/http-proxy.ts";
import { startMcpServer } from "../support/mcp-server.ts";
import { startWithMcp } from "../tools/start-with-mcp.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

test.each(["2026", "2025"] as const)(
  "the tools of an MCP server (revision %s) are listed and called through a proxy",
  async (revision) => {
    const proxy = await startHttpProxy("name:proxy-secret");
    cleanups.push(proxy.stop);
    const mcp = startMcpServer({ revision, tools: [{ name: "look" }] });
    cleanups.push(mcp.stop);
    const target = `wiki.example.test:${new URL(mcp.url).port}`;
    const app = await startWithMcp({
      MCP_SERVERS: `wiki=http://${target}/mcp`,
      HTTP_PROXY: `http://name:proxy-secret@127.0.0.1:${proxy.port}`,
      NO_PROXY: "127.0.0.1",
    });
    cleanups.push(app.stop);
    const anna = await app.parley.register();
    const id = await app.createConversation(anna, [], ["wiki_look"]);
    app.provider.script("one", { toolCalls: [{ name: "wiki_look", arguments: "{}" }] }, { text: "Done." });
    const [answer, result] = await app.requestAnswer(anna, id);
    expect(result).toMatchObject({ content: "done", metadata: { is_error: false } });
    expect(answer?.content).toBe("Done.");
    expect(new Set(proxy.requests.map((request) => request.target))).toEqual(new Set([target]));
    expect(proxy.requests.length).toBe(mcp.requests.length);
    // The proxy's credentials are not sent to the server.
    expect(mcp.calls.map(({ authorization }) => authorization)).toEqual([null]);
  },
);
