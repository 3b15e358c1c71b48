import { expect, setDefaultTimeout, test } from "bun:test";
import { jwtVerify } from "jose";
import { createConversation } from "../support/conversation.ts";
import { startMcpServer } from "../support/mcp-server.ts";
import { startMockProvider } from "../support/mock-provider/server.ts";
import { createInstallation, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const SECRET = "a-secret-for-the-new-server-32-bytes!!";

test("the executable calls tools on MCP servers with either protocol revision, and logs no tokens", async () => {
  const runTool = () => ({ content: [{ type: "text", text: "Found." }] });
  const newServer = startMcpServer({ revision: "2026", tools: [{ name: "look", run: runTool }] });
  const oldServer = startMcpServer({ revision: "2025", tools: [{ name: "look", run: runTool }] });
  const mockProvider = startMockProvider();
  const installation = await createInstallation({
    env: {
      COMPATIBLE_BASE_URL: mockProvider.openaiUrl,
      AI_MODELS: "compatible/one",
      MCP_SERVERS: `new=${newServer.url},old=${oldServer.url},gone=http://127.0.0.1:9/mcp`,
      MCP_NEW_IDENTITY_SECRET: SECRET,
      LOG_LEVEL: "trace",
    },
  });
  try {
    const parley = await installation.start();
    const anna = await parley.register();
    const { id } = await createConversation(parley, anna, [], { title: "Tools", tools: ["new_look", "old_look"] });
    const path = `/api/v1/conversations/${id}/messages`;
    const toolCalls = ["new_look", "old_look"].map((name) => ({ name, arguments: "{}" }));
    mockProvider.script("one", { toolCalls }, { text: "Done." });
    const headers = { accept: "text/event-stream" };
    const json = { content: "Look.", reply: true };
    await (await parley.fetch(path, { token: anna.access_token, json, headers })).text();
    const messagesResponse = await parley.fetch(path, { token: anna.access_token });
    const { data } = (await messagesResponse.json()) as { data: { role: string; content: string }[] };
    expect(data.map(({ role, content }) => [role, content])).toEqual([
      ["user", "Look."],
      ["assistant", "Done."],
      ["tool", "Found."],
      ["tool", "Found."],
    ]);
    const token = newServer.calls[0]?.authorization?.slice("Bearer ".length) ?? "";
    const { payload } = await jwtVerify(token, new TextEncoder().encode(SECRET), {
      audience: newServer.url,
      issuer: "parley",
    });
    expect(payload.sub).toBe(anna.user.id);
    expect(oldServer.calls[0]?.authorization).toBeNull();
    await parley.stop();
    // Parley closed the MCP session.
    expect(oldServer.requests.some(({ method }) => method === "DELETE")).toBe(true);
    const log = installation.readLog();
    expect(log).toContain('"mcp_server":"old","tools":["old_look"]');
    expect(log).toContain('"mcp_server":"gone"');
    for (const { authorization } of newServer.requests)
      expect(log).not.toContain(authorization?.slice("Bearer ".length) ?? "-");
    expect(log).not.toContain(SECRET);
  } finally {
    await installation.remove();
    await Promise.all([newServer.stop(), oldServer.stop(), mockProvider.stop()]);
  }
});
