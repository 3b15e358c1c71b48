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
import { isConnectionUsable, isSessionLost } from "./describe-error.ts";
import { LIST_TIMEOUT_MS, PAGES_MAX, SERVER_TOOLS_MAX, SESSION_CLOSE_TIMEOUT_MS } from "./limits.ts";

/** A tool as described by its server. */
export type WireTool = { name: string; inputSchema: Record<string, unknown> };

export type McpConnectionOptions = {
  /** The server's URL, without credentials. */
  url: URL;
  fetch: Fetch;
  /** Timeout of a call. */
  timeoutMs: number;
  /** Called when the server announces that its tools have changed. If null, the client doesn't subscribe to changes. */
  onChanged: (() => void) | null;
};

/** A connected client that several calls share. */
type SharedClient = {
  client: Client;
  transport: StreamableHTTPClientTransport;
  activeCalls: number;
  isDiscarded: boolean;
};

type ToolPage = { tools?: unknown; nextCursor?: unknown };

/**
 * Accepts any list of tools. A stricter schema would make the MCP client reject the whole list because of one invalid tool.
 * convert-tools.ts checks each tool.
 */
const anyPageSchema: StandardSchemaV1<unknown, ToolPage> = {
  "~standard": { version: 1, vendor: "parley", validate: (value) => ({ value: value as ToolPage }) },
};

/**
 * Manages the connection to an MCP server over streamable HTTP, with protocol revision 2026-07-28 or an older one, depending on the
 * server. The connection is opened on first use, and reopened when the server has lost the session.
 */
export function createConnection({ url, fetch, timeoutMs, onChanged }: McpConnectionOptions) {
  let clientPromise: Promise<SharedClient> | null = null;
  /** After closing, each call opens a new client and closes it. */
  let isClosed = false;

  async function connect(): Promise<SharedClient> {
    // The SDK is loaded on demand, because most deployments have no MCP servers.
    const sdk = await import("@modelcontextprotocol/client");
    const transport = new sdk.StreamableHTTPClientTransport(url, { fetch });
    const client = new sdk.Client(
      { name: "parley", version: build.version },
      // Without capabilities, the client rejects the server's requests for user input or model answers.
      { versionNegotiation: { mode: "auto" }, inputRequired: { autoFulfill: false } },
    );
    if (onChanged) client.setNotificationHandler("notifications/tools/list_changed", onChanged);
    try {
      await abortable(client.connect(transport, { timeout: LIST_TIMEOUT_MS }), AbortSignal.timeout(LIST_TIMEOUT_MS));
    } catch (error) {
      await client.close().catch(() => {});
      throw error;
    }
    // Newer protocol revisions require a subscription to changes; the 2025 revisions don't.
    if (onChanged && client.getProtocolEra() === "modern" && client.getServerCapabilities()?.tools?.listChanged)
      client.listen({ toolsListChanged: true }, { timeout: LIST_TIMEOUT_MS }).catch(() => {});
    return { client, transport, activeCalls: 0, isDiscarded: false };
  }

  async function closeClient({ client, transport }: SharedClient): Promise<void> {
    const sessionEnd = transport.terminateSession().catch(() => {});
    await Promise.race([sessionEnd, Bun.sleep(SESSION_CLOSE_TIMEOUT_MS)]);
    await client.close().catch(() => {});
  }

  function closeIfUnused(sharedClient: SharedClient): void {
    if (sharedClient.activeCalls === 0 && (sharedClient.isDiscarded || isClosed)) void closeClient(sharedClient);
  }

  /** Makes the next call open a new client. Calls in progress can finish with the discarded client. */
  function discard(sharedClient: SharedClient): void {
    sharedClient.isDiscarded = true;
    clientPromise = null;
  }

  async function withClient<T>(work: (sharedClient: SharedClient) => Promise<T>): Promise<T> {
    clientPromise ??= connect();
    const currentPromise = clientPromise;
    let sharedClient: SharedClient;
    try {
      sharedClient = await currentPromise;
    } catch (error) {
      if (clientPromise === currentPromise) clientPromise = null;
      throw error;
    }
    sharedClient.activeCalls += 1;
    try {
      return await work(sharedClient);
    } catch (error) {
      if (!isConnectionUsable(error) && clientPromise === currentPromise) discard(sharedClient);
      throw error;
    } finally {
      sharedClient.activeCalls -= 1;
      if (isClosed && clientPromise === currentPromise) discard(sharedClient);
      closeIfUnused(sharedClient);
    }
  }

  /** Runs `work`. If the server has lost the session, it hasn't executed the call, so `work` is retried once in a new session. */
  async function withSession<T>(work: (sharedClient: SharedClient) => Promise<T>): Promise<T> {
    let hadSession = false;
    const run = (sharedClient: SharedClient) => {
      hadSession = sharedClient.transport.sessionId !== undefined;
      return work(sharedClient);
    };
    try {
      return await withClient(run);
    } catch (error) {
      if (!isSessionLost(error, hadSession)) throw error;
      return withClient(run);
    }
  }

  async function listAllPages({ client }: SharedClient, signal: AbortSignal): Promise<unknown[]> {
    const tools: unknown[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < PAGES_MAX && tools.length < SERVER_TOOLS_MAX; page += 1) {
      const params = cursor === undefined ? {} : { cursor };
      const result = await client.request({ method: "tools/list", params }, anyPageSchema, {
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
    /** Lists up to SERVER_TOOLS_MAX tools, as the server describes them. */
    listTools: (signal: AbortSignal): Promise<unknown[]> =>
      withSession((sharedClient) => runInCallContext(() => listAllPages(sharedClient, signal))),

    callTool: (tool: WireTool, input: Record<string, unknown>, signal: AbortSignal): Promise<CallToolResult> =>
      withSession(({ client }) =>
        runInCallContext(() =>
          client.callTool(
            { name: tool.name, arguments: input },
            // `tool` has no output schema, because compiling an untrusted schema could block this process.
            { signal, timeout: timeoutMs, toolDefinition: tool as never },
          ),
        ),
      ),

    /** Closes the session after the calls in progress. */
    async close(): Promise<void> {
      isClosed = true;
      const sharedClient = await Promise.race([clientPromise?.catch(() => null), Bun.sleep(SESSION_CLOSE_TIMEOUT_MS)]);
      if (!sharedClient) return;
      discard(sharedClient);
      if (sharedClient.activeCalls === 0) await closeClient(sharedClient);
    },
  };
}

export type McpConnection = ReturnType<typeof createConnection>;
