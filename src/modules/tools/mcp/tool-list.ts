import { abortable } from "../../../lib/abortable.ts";
import type { Log } from "../../../lib/log.ts";
import { describeError, isRefusedLocally, isUserRejected } from "./describe-error.ts";
import { createHealth, type Health } from "./health.ts";
import { LIST_FRESH_MS, LIST_GAP_MS, LIST_RETRY_WAIT_MS, LIST_TIMEOUT_MS } from "./limits.ts";
import { type ListedTool, readTools } from "./read-tools.ts";

type Options = {
  server: string;
  /** Requests the tools from the server, as it describes them. */
  listTools(signal: AbortSignal): Promise<unknown[]>;
  /** Whether all users share this list. Its tools are then logged at level info instead of debug. */
  isShared: boolean;
  /** The server's health, shared by all users. */
  health: Health;
  /** Masks what must not be logged. */
  mask(text: string): string;
  log: Log;
};

/** Caches the tools of a server for one user, or for all users. A failing server has no tools until it recovers. */
export function createToolList({ server, listTools, isShared, health, mask, log }: Options) {
  /** The health of this list alone, because a server may reject one user and serve others. */
  const listHealth = createHealth();
  let tools: ListedTool[] = [];
  let isLoaded = false;
  let isChanged = false;
  let refreshedAtMs = Number.NEGATIVE_INFINITY;
  let refreshing: Promise<void> | null = null;
  let loggedState = "";

  async function refresh(): Promise<void> {
    isChanged = false;
    refreshedAtMs = performance.now();
    const signal = AbortSignal.timeout(LIST_TIMEOUT_MS);
    try {
      const listed = await abortable(listTools(signal), signal);
      const read = readTools(server, listed);
      ({ tools } = read);
      isLoaded = true;
      listHealth.succeed();
      health.succeed();
      logTools(read.problems);
    } catch (error) {
      // A rejected user, or a request that Parley refused to send, doesn't mean that the server is unhealthy.
      (isUserRejected(error) || isRefusedLocally(error) ? listHealth : health).fail();
      tools = [];
      isLoaded = false;
      loggedState = "";
      log.warn(
        { mcp_server: server, reason: mask(describeError(error)) },
        "tools of an MCP server could not be listed",
      );
    } finally {
      refreshing = null;
    }
  }

  /** Logs tool names and problems when they have changed. */
  function logTools(problems: readonly string[]): void {
    const names = tools.map(({ name }) => name);
    const state = JSON.stringify([names, problems]);
    if (state === loggedState) return;
    loggedState = state;
    log[isShared ? "info" : "debug"]({ mcp_server: server, tools: names }, "tools of an MCP server");
    if (problems.length > 0)
      log.warn({ mcp_server: server, problems: problems.map(mask) }, "some tools of an MCP server were skipped");
  }

  function startRefresh(): Promise<void> | null {
    if (refreshing || !listHealth.canRetry() || !health.canRetry()) return refreshing;
    refreshing = refresh();
    return refreshing;
  }

  function isFresh(): boolean {
    const ageMs = performance.now() - refreshedAtMs;
    return isLoaded && ageMs < (isChanged ? LIST_GAP_MS : LIST_FRESH_MS);
  }

  return {
    /** Returns the current tools. Waits only if they aren't loaded, and only briefly. Never rejects. */
    async get(signal: AbortSignal): Promise<ListedTool[]> {
      if (isFresh()) return tools;
      const pending = startRefresh();
      if (isLoaded || !pending) return tools;
      const waitMs = listHealth.hasFailed() || health.hasFailed() ? LIST_RETRY_WAIT_MS : LIST_TIMEOUT_MS;
      await abortable(Promise.race([pending, Bun.sleep(waitMs)]), signal).catch(() => {});
      return tools;
    },

    /** Makes the list refresh soon. Called when the server announces a change, or a call fails. */
    expire(): void {
      isChanged = true;
      if (!isFresh()) void startRefresh();
    },
  };
}

export type ToolList = ReturnType<typeof createToolList>;
