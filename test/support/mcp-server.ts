import { Server as Server2025 } from "@modelcontextprotocol/sdk/server/index.js";
import { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js";
import { CallToolRequestSchema, EmptyResultSchema, ListToolsRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { createMcpHandler, Server } from "@modelcontextprotocol/server";

type Json = Record<string, unknown>;
type ToolResult = { content: Json[]; isError?: boolean; structuredContent?: Json };
/** A call as seen by the server. */
type SeenCall = { name: string; input: Json; authorization: string | null; session: string | null };
export type ServedTool = Json & {
  name: string;
  /** Absent: `{content: [{type: "text", text: "done"}]}`. */
  run?: (input: Json, call: SeenCall, signal: AbortSignal, ask: Ask) => ToolResult | Promise<ToolResult>;
};

/** Sends a request to the client, as servers of 2025 do. */
type Ask = (method: string, params: Json) => Promise<unknown>;

type Options = {
  /** The revision of the protocol: 2026-07-28 without sessions, or 2025-11-25 with them. */
  revision: "2026" | "2025";
  tools: ServedTool[];
  /** Splits the list into pages with one tool each. */
  isPaged?: boolean;
  /** Responds to a request before the server does; null leaves it to the server. */
  intercept?: (request: Request) => Response | Promise<Response> | null;
};

const none = { type: "object" };
const done: ToolResult = { content: [{ type: "text", text: "done" }] };

/** An MCP server built with the official packages, over real HTTP. */
export function startMcpServer({ revision, tools, isPaged = false, intercept = () => null }: Options) {
  const calls: SeenCall[] = [];
  const requests: { method: string; authorization: string | null; rpc: string | null }[] = [];
  const sessions = new Map<string, WebStandardStreamableHTTPServerTransport>();
  const state = { tools, intercept, forgottenStatus: 404 };

  const list = (cursor: unknown) => {
    const all = state.tools.map(({ run: _, ...tool }) => ({ inputSchema: none, ...tool }));
    if (!isPaged) return { tools: all };
    const index = Number(cursor ?? 0);
    return { tools: all.slice(index, index + 1), ...(index + 1 < all.length && { nextCursor: String(index + 1) }) };
  };

  async function call(
    params: { name: string; arguments?: Json },
    headers: Headers | undefined,
    signal: AbortSignal,
    ask: Ask = () => Promise.reject(new Error("servers of 2026 send no requests")),
  ) {
    const seen = {
      name: params.name,
      input: params.arguments ?? {},
      authorization: headers?.get("authorization") ?? null,
      session: headers?.get("mcp-session-id") ?? null,
    };
    calls.push(seen);
    const tool = state.tools.find(({ name }) => name === params.name);
    return (await tool?.run?.(seen.input, seen, signal, ask)) ?? done;
  }

  const capabilities = { capabilities: { tools: { listChanged: true } } };
  const modern = createMcpHandler(
    () => {
      const server = new Server({ name: "test", version: "1" }, capabilities);
      server.setRequestHandler("tools/list", async ({ params }) => list(params?.cursor) as never);
      server.setRequestHandler("tools/call", async ({ params }, context) => {
        return (await call(params as never, context.http?.req?.headers, context.mcpReq.signal)) as never;
      });
      return server;
    },
    { legacy: "reject" },
  );

  async function serve2025(request: Request): Promise<Response> {
    const id = request.headers.get("mcp-session-id");
    const known = id === null ? undefined : sessions.get(id);
    if (id !== null && !known)
      return Response.json(
        { jsonrpc: "2.0", id: null, error: { code: -32001, message: "Session not found" } },
        { status: state.forgottenStatus },
      );
    if (known) return known.handleRequest(request);
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: () => crypto.randomUUID(),
      onsessioninitialized: (session) => void sessions.set(session, transport),
    });
    const server = new Server2025({ name: "test", version: "1" }, capabilities);
    server.setRequestHandler(ListToolsRequestSchema, async ({ params }) => list(params?.cursor) as never);
    server.setRequestHandler(CallToolRequestSchema, async ({ params }, { requestInfo, signal, sendRequest }) => {
      const ask: Ask = (method, input) => sendRequest({ method, params: input } as never, EmptyResultSchema);
      return (await call(params as never, new Headers(requestInfo?.headers as never), signal, ask)) as never;
    });
    await server.connect(transport);
    notifiers.add(() => server.sendToolListChanged());
    return transport.handleRequest(request);
  }
  const notifiers = new Set<() => Promise<void>>();

  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch(request) {
      const body = (await request
        .clone()
        .json()
        .catch(() => null)) as { method?: string } | null;
      requests.push({
        method: request.method,
        authorization: request.headers.get("authorization"),
        rpc: body?.method ?? null,
      });
      return (await state.intercept(request)) ?? (revision === "2026" ? modern.fetch(request) : serve2025(request));
    },
  });

  return {
    url: `http://127.0.0.1:${server.port}/mcp`,
    /** Calls that reached a tool, and all requests, in order. */
    calls,
    requests,
    /** The server's behavior, which may be changed while it runs. */
    state,
    sessions,
    /** Notifies its clients that its tools have changed. */
    async announceChange() {
      modern.notify.toolsChanged();
      await Promise.allSettled([...notifiers].map((notify) => notify()));
    },
    async stop() {
      await modern.close();
      await server.stop(true);
    },
  };
}

export type McpServer = ReturnType<typeof startMcpServer>;
