import type {
  CallToolResult,
  Client,
  StandardSchemaV1,
  StreamableHTTPClientTransport,
} from "@modelcontextprotocol/client";
import { abortable } from "../../../lib/abortable.ts";
import { build } from "../../../lib/build.ts";
import type { Fetch } from "../../../lib/outgoing/create-fetch.ts";
import { runInCallContext } from "./bounded-fetch.ts";
import { isConnectionUsable, isSessionGone } from "./describe-error.ts";
import { LIST_TIMEOUT_MS, PAGES_MAX, SERVER_TOOLS_MAX, SESSION_END_TIMEOUT_MS } from "./limits.ts";

/** A tool as described by its server. */
export type WireTool = { name: string; inputSchema: Record<string, unknown> };

export type McpConnectionOptions = {
  /** The server's URL, without credentials. */
  url: URL;
  fetch: Fetch;
  /** The timeout of one call. */
  timeoutMs: number;
  /** Called when the server announces that its tools changed. Null to not subscribe to changes. */
  onChanged: (() => void) | null;
};

/** One connected client, shared by several calls. */
type SharedClient = {
  client: Client;
  transport: StreamableHTTPClientTransport;
  activeCalls: number;
  isDiscarded: boolean;
};

type ToolPage = { tools?: unknown; nextCursor?: unknown };

/**
 * Accepts any list, because the MCP client would reject all of it for one invalid tool. Each tool is checked separately
 * later.
 */
const anyPage: StandardSchemaV1<unknown, ToolPage> = {
  "~standard": { version: 1, vendor: "parley", validate: (value) => ({ value: value as ToolPage }) },
};

/**
 * Manages the connection to one MCP server over streamable HTTP, with protocol revision 2026-07-28 or one of 2025,
 * depending on the server. It is opened on first use, and reopened when the server has lost the session.
 */
export function createConnection({ url, fetch, timeoutMs, onChanged }: McpConnectionOptions) {
  let connecting: Promise<SharedClient> | null = null;
  /** Once this is set, no client is kept open; each later call gets its own. */
  let isClosed = false;

  async function connect(): Promise<SharedClient> {
    // Loaded on demand, because most installations have no MCP servers.
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
    // With the revisions of 2025, servers announce changes without a subscription; newer ones require one.
    if (onChanged && client.getProtocolEra() === "modern" && client.getServerCapabilities()?.tools?.listChanged)
      client.listen({ toolsListChanged: true }, { timeout: LIST_TIMEOUT_MS }).catch(() => {});
    return { client, transport, activeCalls: 0, isDiscarded: false };
  }

  async function closeClient({ client, transport }: SharedClient): Promise<void> {
    const ended = transport.terminateSession().catch(() => {});
    await Promise.race([ended, Bun.sleep(SESSION_END_TIMEOUT_MS)]);
    await client.close().catch(() => {});
  }

  function closeIfUnused(shared: SharedClient): void {
    if (shared.activeCalls === 0 && (shared.isDiscarded || isClosed)) void closeClient(shared);
  }

  /** Makes the next call open a new client. Running calls of this one may finish. */
  function discard(shared: SharedClient): void {
    shared.isDiscarded = true;
    connecting = null;
  }

  async function useClient<T>(work: (shared: SharedClient) => Promise<T>): Promise<T> {
    connecting ??= connect();
    const current = connecting;
    let shared: SharedClient;
    try {
      shared = await current;
    } catch (error) {
      if (connecting === current) connecting = null;
      throw error;
    }
    shared.activeCalls += 1;
    try {
      return await work(shared);
    } catch (error) {
      if (!isConnectionUsable(error) && connecting === current) discard(shared);
      throw error;
    } finally {
      shared.activeCalls -= 1;
      if (isClosed && connecting === current) discard(shared);
      closeIfUnused(shared);
    }
  }

  /** Retries once with a new session if the server has lost the old one, in which case it hasn't executed anything. */
  async function withSession<T>(work: (shared: SharedClient) => Promise<T>): Promise<T> {
    let hadSession = false;
    const attempt = (shared: SharedClient) => {
      hadSession = shared.transport.sessionId !== undefined;
      return work(shared);
    };
    try {
      return await useClient(attempt);
    } catch (error) {
      if (!isSessionGone(error, hadSession)) throw error;
      return useClient(attempt);
    }
  }

  async function listAllPages({ client }: SharedClient, signal: AbortSignal): Promise<unknown[]> {
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
    /** Lists the server's tools as it describes them, up to SERVER_TOOLS_MAX. */
    listTools: (signal: AbortSignal): Promise<unknown[]> =>
      withSession((shared) => runInCallContext(() => listAllPages(shared, signal))),

    callTool: (tool: WireTool, input: Record<string, unknown>, signal: AbortSignal): Promise<CallToolResult> =>
      withSession(({ client }) =>
        runInCallContext(() =>
          client.callTool(
            { name: tool.name, arguments: input },
            // Passed without an output schema, because compiling an untrusted schema could block this process.
            { signal, timeout: timeoutMs, toolDefinition: tool as never },
          ),
        ),
      ),

    /** Ends the session after its running calls. */
    async close(): Promise<void> {
      isClosed = true;
      const shared = await Promise.race([connecting?.catch(() => null), Bun.sleep(SESSION_END_TIMEOUT_MS)]);
      if (!shared) return;
      discard(shared);
      if (shared.activeCalls === 0) await closeClient(shared);
    },
  };
}

export type McpConnection = ReturnType<typeof createConnection>;
