import { Server as Server2025 } from "@modelcontextprotocol/sdk/server/index.js";
import { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js";
import { CallToolRequestSchema, EmptyResultSchema, ListToolsRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { createMcpHandler, Server } from "@modelcontextprotocol/server";

type Json = Record<string, unknown>;
type ToolResult = { content: Json[]; isError?: boolean; structuredContent?: Json };
/** A tool call that the server received. */
type ReceivedCall = { name: string; input: Json; authorization: string | null; session: string | null };
export type TestTool = Json & {
  name: string;
  /** Returns the result of a call. If absent, the result is the text `done`. */
  run?: (
    input: Json,
    call: ReceivedCall,
    signal: AbortSignal,
    sendToClient: SendToClient,
  ) => ToolResult | Promise<ToolResult>;
};

/** Sends a request to the client. Only the 2025 revision allows such requests. */
type SendToClient = (method: string, params: Json) => Promise<unknown>;

type Options = {
  /** The protocol revision. `2026` is 2026-07-28, which has no sessions. `2025` is 2025-11-25, which has sessions. */
  revision: "2026" | "2025";
  tools: TestTool[];
  /** Whether the tool list is split into pages of one tool each. */
  isPaginated?: boolean;
  /** Returns a response to send instead of the server's own, or null. */
  intercept?: (request: Request) => Response | Promise<Response> | null;
};

const emptySchema = { type: "object" };
const defaultResult: ToolResult = { content: [{ type: "text", text: "done" }] };

/** Starts an MCP server built with the official packages. */
export function startMcpServer({ revision, tools, isPaginated = false, intercept = () => null }: Options) {
  const calls: ReceivedCall[] = [];
  const requests: { method: string; authorization: string | null; rpcMethod: string | null }[] = [];
  const sessions = new Map<string, WebStandardStreamableHTTPServerTransport>();
  const state = { tools, intercept, unknownSessionStatus: 404 };

  const listTools = (cursor: unknown) => {
    const allTools = state.tools.map(({ run: _, ...tool }) => ({ inputSchema: emptySchema, ...tool }));
    if (!isPaginated) return { tools: allTools };
    const index = Number(cursor ?? 0);
    return {
      tools: allTools.slice(index, index + 1),
      ...(index + 1 < allTools.length && { nextCursor: String(index + 1) }),
    };
  };

  async function callTool(
    params: { name: string; arguments?: Json },
    headers: Headers | undefined,
    signal: AbortSignal,
    sendToClient: SendToClient = () =>
      Promise.reject(new Error("The 2026 revision doesn't support requests to clients.")),
  ) {
    const receivedCall = {
      name: params.name,
      input: params.arguments ?? {},
      authorization: headers?.get("authorization") ?? null,
      session: headers?.get("mcp-session-id") ?? null,
    };
    calls.push(receivedCall);
    const tool = state.tools.find(({ name }) => name === params.name);
    return (await tool?.run?.(receivedCall.input, receivedCall, signal, sendToClient)) ?? defaultResult;
  }

  const capabilities = { capabilities: { tools: { listChanged: true } } };
  const handler2026 = createMcpHandler(
    () => {
      const server = new Server({ name: "test", version: "1" }, capabilities);
      server.setRequestHandler("tools/list", async ({ params }) => listTools(params?.cursor) as never);
      server.setRequestHandler("tools/call", async ({ params }, context) => {
        return (await callTool(params as never, context.http?.req?.headers, context.mcpReq.signal)) as never;
      });
      return server;
    },
    { legacy: "reject" },
  );

  async function handle2025Request(request: Request): Promise<Response> {
    const id = request.headers.get("mcp-session-id");
    const existingTransport = id === null ? undefined : sessions.get(id);
    if (id !== null && !existingTransport)
      return Response.json(
        { jsonrpc: "2.0", id: null, error: { code: -32001, message: "Session not found" } },
        { status: state.unknownSessionStatus },
      );
    if (existingTransport) return existingTransport.handleRequest(request);
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: () => crypto.randomUUID(),
      onsessioninitialized: (session) => void sessions.set(session, transport),
    });
    const server = new Server2025({ name: "test", version: "1" }, capabilities);
    server.setRequestHandler(ListToolsRequestSchema, async ({ params }) => listTools(params?.cursor) as never);
    server.setRequestHandler(CallToolRequestSchema, async ({ params }, { requestInfo, signal, sendRequest }) => {
      const sendToClient: SendToClient = (method, input) =>
        sendRequest({ method, params: input } as never, EmptyResultSchema);
      return (await callTool(
        params as never,
        new Headers(requestInfo?.headers as never),
        signal,
        sendToClient,
      )) as never;
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
        rpcMethod: body?.method ?? null,
      });
      return (
        (await state.intercept(request)) ??
        (revision === "2026" ? handler2026.fetch(request) : handle2025Request(request))
      );
    },
  });

  return {
    url: `http://127.0.0.1:${server.port}/mcp`,
    /** The tool calls, in order. */
    calls,
    /** All requests, in order. */
    requests,
    /** Tests can change these values to change the behavior of the running server. */
    state,
    sessions,
    /** Notifies the clients that the tools have changed. */
    async notifyToolsChanged() {
      handler2026.notify.toolsChanged();
      await Promise.allSettled([...notifiers].map((notify) => notify()));
    },
    async stop() {
      await handler2026.close();
      await server.stop(true);
    },
  };
}

export type McpServer = ReturnType<typeof startMcpServer>;
