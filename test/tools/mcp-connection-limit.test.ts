import { expect, test } from "bun:test";
import { createFetch } from "../../src/lib/outgoing/create-fetch.ts";
import { noProxy } from "../../src/lib/outgoing/find-proxy.ts";
import { REQUESTS_MAX } from "../../src/modules/tools/mcp/limits.ts";
import { createMcpServer } from "../../src/modules/tools/mcp/server.ts";
import { silentLog } from "../support/log.ts";
import { startMcpServer } from "../support/mcp-server.ts";
import { waitUntil } from "../support/wait-until.ts";

test("a hanging server uses a limited number of connections, which are released", async () => {
  let isHanging = true;
  const run = () => (isHanging ? new Promise<never>(() => {}) : { content: [{ type: "text", text: "Found." }] });
  const mcp = startMcpServer({ revision: "2026", tools: [{ name: "look", run }] });
  const server = createMcpServer({
    setting: { name: "wiki", url: mcp.url, timeoutMs: 60_000, headers: {}, identitySecret: null },
    issuer: "parley",
    findUser: async () => null,
    fetch: createFetch(noProxy),
    log: silentLog,
  });
  try {
    const controller = new AbortController();
    const [tool] = await server.listTools({ userId: null, signal: controller.signal });
    const callTool = () => tool?.run({}, controller.signal).catch((error: Error) => error.message);
    const calls = Array.from({ length: REQUESTS_MAX }, callTool);
    await waitUntil(() => mcp.calls.length === REQUESTS_MAX);
    expect(await callTool()).toBe("Too many requests to this tool's server are in progress. Try again later.");
    expect(mcp.calls.length).toBe(REQUESTS_MAX);
    controller.abort();
    await Promise.all(calls);
    isHanging = false;
    expect(await tool?.run({}, new AbortController().signal)).toBe("Found.");
  } finally {
    await server.close();
    await mcp.stop();
  }
});
