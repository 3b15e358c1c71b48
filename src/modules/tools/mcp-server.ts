import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { TOOL_NAME_CHARS_MAX } from "../../ai/provider.ts";
import { build } from "../../lib/build.ts";
import type { Log } from "../../lib/log.ts";
import { readUserinfo } from "../../lib/userinfo.ts";
import { type RunnableTool, ToolError } from "./model.ts";

/** A server that has not told its tools by then is left out, until it has. */
const MCP_LIST_TIMEOUT_MS = 5_000;
/** How long a list counts as fresh; after that it is asked for again, beside the answers. */
const MCP_LIST_FRESH_MS = 60_000;
/** Tools of one server; providers take some more than this in all. */
const MCP_TOOLS_MAX = 64;
const CALL_TIMEOUT_MS = 20_000;

/** One MCP server, over streamable HTTP. Whatever it does wrong, answers are written all the same. */
export function createMcpServer({ name, url, log }: { name: string; url: string; log: Log }) {
  let client: Client | null = null;
  let tools: RunnableTool[] = [];
  let checkedAtMs = Number.NEGATIVE_INFINITY;
  let checking: Promise<void> | null = null;

  async function connect(): Promise<Client> {
    // Loaded where it is needed: most servers of ours have none of theirs.
    const [sdk, transport] = await Promise.all([
      import("@modelcontextprotocol/sdk/client/index.js"),
      import("@modelcontextprotocol/sdk/client/streamableHttp.js"),
    ]);
    const made = new sdk.Client({ name: "parley", version: build.version });
    // The credentials of an address go into a header, so no error of the connection holds them.
    const userinfo = readUserinfo(url);
    const requestInit = userinfo ? { headers: { authorization: userinfo.authorization } } : {};
    const address = new URL(userinfo?.url ?? url);
    await made.connect(new transport.StreamableHTTPClientTransport(address, { requestInit }), {
      timeout: MCP_LIST_TIMEOUT_MS,
    });
    return made;
  }

  async function forget(): Promise<void> {
    const before = client;
    client = null;
    await before?.close().catch(() => {});
  }

  async function check(): Promise<void> {
    try {
      client ??= await connect();
      const listed = await client.listTools({}, { timeout: MCP_LIST_TIMEOUT_MS });
      tools = listed.tools.slice(0, MCP_TOOLS_MAX).map(mapTool);
    } catch (error) {
      log.warn({ err: error, mcp_server: name }, "MCP server cannot be asked for its tools");
      tools = [];
      await forget();
    } finally {
      checkedAtMs = performance.now();
      checking = null;
    }
  }

  function mapTool(tool: { name: string; description?: string | undefined; inputSchema: object }): RunnableTool {
    return {
      // With the server in front: two servers may have tools of the same name.
      name: `${name}_${tool.name}`.replace(/[^\w-]/g, "_").slice(0, TOOL_NAME_CHARS_MAX),
      description: tool.description ?? null,
      parameters: { ...tool.inputSchema },
      run: (input, signal) => call(tool.name, input, signal),
    };
  }

  async function call(tool: string, input: Record<string, unknown>, signal: AbortSignal): Promise<string> {
    if (!client) throw new ToolError("The tool cannot be reached.");
    let result: Awaited<ReturnType<Client["callTool"]>>;
    try {
      result = await client.callTool({ name: tool, arguments: input }, undefined, { signal, timeout: CALL_TIMEOUT_MS });
    } catch (error) {
      // The connection may be spoilt; the next answer asks for the tools again, and connects anew. The call is not
      // repeated: it may have been carried out.
      checkedAtMs = Number.NEGATIVE_INFINITY;
      await forget();
      throw error;
    }
    const text = readContent(result);
    if (result.isError) throw new ToolError(text);
    return text;
  }

  return {
    /** The tools there are now. Only the first look is waited for; a stale list is renewed beside the answers. */
    async listTools(): Promise<RunnableTool[]> {
      const isFirst = checkedAtMs === Number.NEGATIVE_INFINITY;
      if (performance.now() - checkedAtMs > MCP_LIST_FRESH_MS) checking ??= check();
      if (isFirst && checking) await Promise.race([checking, Bun.sleep(MCP_LIST_TIMEOUT_MS)]);
      return tools;
    },
    close: forget,
  };
}

/** Texts as they are; what is no text is named, since models here read text only. */
function readContent(result: Record<string, unknown>): string {
  const parts = Array.isArray(result.content) ? (result.content as { type: string; text?: unknown }[]) : [];
  const texts = parts.map(({ type, text }) => (typeof text === "string" ? text : `(${type} left out)`));
  if (texts.length === 0 && result.structuredContent !== undefined) return JSON.stringify(result.structuredContent);
  return texts.join("\n");
}
