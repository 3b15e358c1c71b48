import type {
  CallToolResult,
  Client,
  StandardSchemaV1,
  StreamableHTTPClientTransport,
} from "@modelcontextprotocol/client";
import { abortable } from "../../../lib/abortable.ts";
import { build } from "../../../lib/build.ts";
import type { Fetch } from "../../../lib/outgoing/create-fetch.ts";
import { runExchange } from "./bounded-fetch.ts";
import { isServerResponse, isSessionGone } from "./describe-error.ts";
import { LIST_TIMEOUT_MS, PAGES_MAX, SERVER_TOOLS_MAX, SESSION_END_TIMEOUT_MS } from "./limits.ts";

/** A tool as its server describes it. */
export type WireTool = { name: string; inputSchema: Record<string, unknown> };

export type McpConnectionOptions = {
  /** Without credentials. */
  url: URL;
  fetch: Fetch;
  /** Timeout of one call. */
  timeoutMs: number;
  /** Called when the server announces that its tools changed. Null: don't subscribe. */
  onChanged: (() => void) | null;
};

/** One connected client, shared by several calls. */
type Link = { client: Client; transport: StreamableHTTPClientTransport; users: number; isDropped: boolean };

type ToolPage = { tools?: unknown; nextCursor?: unknown };

/** The MCP client would reject the whole list because of one invalid tool; each tool is checked separately later. */
const anyPage: StandardSchemaV1<unknown, ToolPage> = {
  "~standard": { version: 1, vendor: "parley", validate: (value) => ({ value: value as ToolPage }) },
};

/**
 * The connection to one MCP server over streamable HTTP, in revision 2026-07-28 or those of 2025, whichever the server
 * supports. Opened on first use, and reopened when the server has lost the session.
 */
export function createConnection({ url, fetch, timeoutMs, onChanged }: McpConnectionOptions) {
  let linking: Promise<Link> | null = null;
  /** Once closed, no connection is kept open; later calls get a connection each. */
  let isClosed = false;

  async function connect(): Promise<Link> {
    // Loaded on demand: most installations have no MCP servers.
    const sdk = await import("@modelcontextprotocol/client");
    const transport = new sdk.StreamableHTTPClientTransport(url, { fetch });
    const client = new sdk.Client(
      { name: "parley", version: build.version },
      // Without capabilities, the client rejects the server's requests (for input, or for a model).
      { versionNegotiation: { mode: "auto" }, inputRequired: { autoFulfill: false } },
    );
    if (onChanged) client.setNotificationHandler("notifications/tools/list_changed", onChanged);
    try {
      await abortable(client.connect(transport, { timeout: LIST_TIMEOUT_MS }), AbortSignal.timeout(LIST_TIMEOUT_MS));
    } catch (error) {
      await client.close().catch(() => {});
      throw error;
    }
    // Servers of 2025 announce changes unasked; newer ones need a subscription.
    if (onChanged && client.getProtocolEra() === "modern" && client.getServerCapabilities()?.tools?.listChanged)
      client.listen({ toolsListChanged: true }, { timeout: LIST_TIMEOUT_MS }).catch(() => {});
    return { client, transport, users: 0, isDropped: false };
  }

  async function end({ client, transport }: Link): Promise<void> {
    const ended = transport.terminateSession().catch(() => {});
    await Promise.race([ended, Bun.sleep(SESSION_END_TIMEOUT_MS)]);
    await client.close().catch(() => {});
  }

  function endUnused(link: Link): void {
    if (link.users === 0 && (link.isDropped || isClosed)) void end(link);
  }

  /** The next request opens a new link; calls on this one may finish. */
  function drop(link: Link): void {
    link.isDropped = true;
    linking = null;
  }

  async function use<T>(work: (link: Link) => Promise<T>): Promise<T> {
    linking ??= connect();
    const current = linking;
    let link: Link;
    try {
      link = await current;
    } catch (error) {
      if (linking === current) linking = null;
      throw error;
    }
    link.users += 1;
    try {
      return await work(link);
    } catch (error) {
      if (!isServerResponse(error) && linking === current) drop(link);
      throw error;
    } finally {
      link.users -= 1;
      if (isClosed && linking === current) drop(link);
      endUnused(link);
    }
  }

  /** Retries once on a new session if the server has lost the old one: it then hasn't executed anything. */
  async function useSession<T>(work: (link: Link) => Promise<T>): Promise<T> {
    let hadSession = false;
    const attempt = (link: Link) => {
      hadSession = link.transport.sessionId !== undefined;
      return work(link);
    };
    try {
      return await use(attempt);
    } catch (error) {
      if (!isSessionGone(error, hadSession)) throw error;
      return use(attempt);
    }
  }

  async function walkPages({ client }: Link, signal: AbortSignal): Promise<unknown[]> {
    const tools: unknown[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < PAGES_MAX && tools.length < SERVER_TOOLS_MAX; page += 1) {
      const params = cursor === undefined ? {} : { cursor };
      const result = await client.request({ method: "tools/list", params }, anyPage, {
        signal,
        timeout: LIST_TIMEOUT_MS,
      });
      if (Array.isArray(result.tools)) tools.push(...result.tools.slice(0, SERVER_TOOLS_MAX - tools.length));
      if (typeof result.nextCursor !== "string" || result.nextCursor === cursor) break;
      cursor = result.nextCursor;
    }
    return tools;
  }

  return {
    /** The first tools of the server, as it describes them. */
    listTools: (signal: AbortSignal): Promise<unknown[]> =>
      useSession((link) => runExchange(() => walkPages(link, signal))),

    callTool: (tool: WireTool, input: Record<string, unknown>, signal: AbortSignal): Promise<CallToolResult> =>
      useSession(({ client }) =>
        runExchange(() =>
          client.callTool(
            { name: tool.name, arguments: input },
            // Without the result's schema: compiling a foreign one could block this process.
            { signal, timeout: timeoutMs, toolDefinition: tool as never },
          ),
        ),
      ),

    /** Ends the session once its calls have ended. */
    async close(): Promise<void> {
      isClosed = true;
      const link = await Promise.race([linking?.catch(() => null), Bun.sleep(SESSION_END_TIMEOUT_MS)]);
      if (!link) return;
      drop(link);
      if (link.users === 0) await end(link);
    },
  };
}

export type McpConnection = ReturnType<typeof createConnection>;
