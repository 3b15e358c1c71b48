import { BoundedCache } from "../../../cache/bounded-cache.ts";
import type { McpServerSetting } from "../../../config/mcp.ts";
import { listHeaderSecrets } from "../../../lib/header-fields.ts";
import type { Log } from "../../../lib/log.ts";
import { listAddressSecrets } from "../../../lib/mask-address.ts";
import { createSecretMasker } from "../../../lib/mask-secrets.ts";
import type { Fetch } from "../../../lib/outgoing/create-fetch.ts";
import { parseUserinfo } from "../../../lib/userinfo.ts";
import { type RunnableTool, ToolError, type ToolRequest } from "../model.ts";
import { createBoundedFetch } from "./bounded-fetch.ts";
import { createConnection, type McpConnection, type WireTool } from "./connection.ts";
import { describeCallError } from "./describe-error.ts";
import { formatResult } from "./format-result.ts";
import { createHealthTracker } from "./health.ts";
import { createIdentity, type FindToolUser, type UserIdentity } from "./identity.ts";
import { LIST_TIMEOUT_MS, REQUESTS_MAX, USER_TTL_MS, USERS_MAX } from "./limits.ts";
import { createToolList, type ToolList } from "./tool-list.ts";

/** An HTTP request's timeout is this much longer than its call's, so that the call times out first, with a clearer message. */
const REQUEST_MARGIN_MS = 1_000;

export type McpServerOptions = {
  setting: McpServerSetting;
  /** The issuer of user tokens, which identifies this deployment. */
  issuer: string;
  findUser: FindToolUser;
  fetch: Fetch;
  log: Log;
};

/** The connection and the tools of one user, or the connection and the tools that all users share. */
type ClientState = { connection: McpConnection; toolList: ToolList; mask(text: string): string };

/** Manages an MCP server. Its failures never make an answer fail. */
export function createMcpServer({ setting, issuer, findUser, fetch, log }: McpServerOptions) {
  const { name, timeoutMs, identitySecret } = setting;
  // Credentials are moved from the URL to a header, so that connection errors don't contain them.
  const userinfo = parseUserinfo(setting.url);
  const url = new URL(userinfo?.url ?? setting.url);
  const staticHeaders = { ...(userinfo && { authorization: userinfo.authorization }), ...setting.headers };
  /** Masks configured secrets, because some servers echo the request in their errors, which users and models can read. */
  const maskSecrets = createSecretMasker([...listAddressSecrets(setting.url), ...listHeaderSecrets(setting.headers)]);
  const health = createHealthTracker();
  let requestCount = 0;

  /** Runs `work` within the server's limit of concurrent requests. */
  async function withSlot<T>(work: () => Promise<T>): Promise<T> {
    if (requestCount >= REQUESTS_MAX)
      throw new ToolError("Too many requests to this tool's server are in progress. Try again later.");
    requestCount += 1;
    try {
      return await work();
    } finally {
      requestCount -= 1;
    }
  }

  function createState(identity: UserIdentity | null): ClientState {
    const mask = (text: string) => maskSecrets(identity ? identity.mask(text) : text);
    const connection = createConnection({
      url,
      timeoutMs: timeoutMs + REQUEST_MARGIN_MS,
      fetch: createBoundedFetch({
        fetch,
        timeoutMs: Math.max(timeoutMs, LIST_TIMEOUT_MS) + REQUEST_MARGIN_MS,
        // A stream for each user would exhaust the connections.
        allowStreams: identity === null,
        createHeaders: async () =>
          identity ? { ...staticHeaders, authorization: `Bearer ${await identity.createToken()}` } : staticHeaders,
      }),
      onChanged: identity === null ? () => toolList.expire() : null,
    });
    const listTools = (signal: AbortSignal) => withSlot(() => connection.listTools(signal));
    const toolList = createToolList({ server: name, listTools, isShared: identity === null, health, mask, log });
    return { connection, toolList, mask };
  }

  const sharedState = identitySecret === null ? createState(null) : null;
  /** With per-user identity, users don't share connections, sessions or tool lists. */
  const userStates = new BoundedCache<ClientState>({
    maxSize: USERS_MAX,
    ttlMs: USER_TTL_MS,
    onEvict: (_, { connection }) => void connection.close(),
  });

  function getState(userId: string | null): ClientState | null {
    if (sharedState || identitySecret === null) return sharedState;
    // A server with per-user identity isn't called without a user.
    if (userId === null) return null;
    const state =
      userStates.get(userId) ??
      createState(
        createIdentity({ userId, findUser, issuer, audience: url.origin + url.pathname, secret: identitySecret }),
      );
    userStates.set(userId, state);
    return state;
  }

  async function callTool(state: ClientState, tool: WireTool, input: Record<string, unknown>, signal: AbortSignal) {
    const { connection, toolList, mask } = state;
    let result: Awaited<ReturnType<McpConnection["callTool"]>>;
    try {
      result = await withSlot(() => connection.callTool(tool, input, signal));
    } catch (error) {
      if (error instanceof ToolError || signal.aborted) throw error;
      const { reason, detail } = describeCallError(error);
      log.warn({ mcp_server: name, tool: tool.name, reason: mask(reason) }, "call to an MCP tool failed");
      // The call isn't retried, because the server may have executed it.
      if (detail === null) toolList.expire();
      throw new ToolError(mask(detail ?? "the tool failed."));
    }
    const text = mask(formatResult(result));
    if (result.isError) throw new ToolError(text);
    return text;
  }

  return {
    name,

    /** Lists the tools that this user can currently call. Never rejects. */
    async listTools({ userId, signal }: Omit<ToolRequest, "selection">): Promise<RunnableTool[]> {
      const state = getState(userId);
      if (!state) return [];
      return (await state.toolList.get(signal)).map(({ original, ...tool }) => ({
        ...tool,
        timeoutMs,
        run: (input, callSignal) => callTool(state, original, input, callSignal),
      }));
    },

    /** Loads the tools at startup, unless they are per user. */
    preloadTools(): void {
      void sharedState?.toolList.get(AbortSignal.timeout(LIST_TIMEOUT_MS));
    },

    async close(): Promise<void> {
      userStates.clear();
      await sharedState?.connection.close();
    },
  };
}
