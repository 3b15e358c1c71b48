import { abortable } from "../../../lib/abortable.ts";
import type { Log } from "../../../lib/log.ts";
import { convertTools, type ListedTool } from "./convert-tools.ts";
import { describeError, isRefusedLocally, isUserRejected } from "./describe-error.ts";
import { createHealthTracker, type HealthTracker } from "./health.ts";
import { LIST_FRESH_AGE_MS_MAX, LIST_INTERVAL_MS_MIN, LIST_RETRY_WAIT_MS_MAX, LIST_TIMEOUT_MS } from "./limits.ts";

type Options = {
  server: string;
  /** Requests the tools from the server, as it describes them. */
  listTools(signal: AbortSignal): Promise<unknown[]>;
  /** Whether all users share this list. Shared tools are logged at info level, other tools at debug level. */
  isShared: boolean;
  /** The server's health, shared by all users. */
  health: HealthTracker;
  /** Masks secrets in logged text. */
  mask(text: string): string;
  log: Log;
};

/** Caches a server's tools for one user or for all users. A failing server has no tools until it recovers. */
export function createToolList({ server, listTools, isShared, health, mask, log }: Options) {
  /** The health of this list, because a server may reject one user and accept others. */
  const listHealth = createHealthTracker();
  let tools: ListedTool[] = [];
  let isLoaded = false;
  let isChangeAnnounced = false;
  let refreshedAtMs = Number.NEGATIVE_INFINITY;
  let runningRefresh: Promise<void> | null = null;
  let loggedState = "";

  async function refresh(): Promise<void> {
    isChangeAnnounced = false;
    refreshedAtMs = performance.now();
    const signal = AbortSignal.timeout(LIST_TIMEOUT_MS);
    try {
      const serverTools = await abortable(listTools(signal), signal);
      const conversion = convertTools(server, serverTools);
      ({ tools } = conversion);
      isLoaded = true;
      listHealth.recordSuccess();
      health.recordSuccess();
      logTools(conversion.problems);
    } catch (error) {
      // The server isn't unhealthy if it rejected a user, or Parley refused to send a request.
      (isUserRejected(error) || isRefusedLocally(error) ? listHealth : health).recordFailure();
      tools = [];
      isLoaded = false;
      loggedState = "";
      log.warn(
        { mcp_server: server, reason: mask(describeError(error)) },
        "tools of an MCP server could not be listed",
      );
    } finally {
      runningRefresh = null;
    }
  }

  /** Logs tool names and problems when they have changed. */
  function logTools(problems: readonly string[]): void {
    const names = tools.map(({ name }) => name);
    const toolState = JSON.stringify([names, problems]);
    if (toolState === loggedState) return;
    loggedState = toolState;
    log[isShared ? "info" : "debug"]({ mcp_server: server, tools: names }, "tools of an MCP server");
    if (problems.length > 0)
      log.warn({ mcp_server: server, problems: problems.map(mask) }, "some tools of an MCP server were skipped");
  }

  function startRefresh(): Promise<void> | null {
    if (runningRefresh || !listHealth.canRetry() || !health.canRetry()) return runningRefresh;
    runningRefresh = refresh();
    return runningRefresh;
  }

  function isFresh(): boolean {
    const ageMs = performance.now() - refreshedAtMs;
    return isLoaded && ageMs < (isChangeAnnounced ? LIST_INTERVAL_MS_MIN : LIST_FRESH_AGE_MS_MAX);
  }

  return {
    /** Returns the current tools. If they aren't loaded, waits for a limited time. Never rejects. */
    async get(signal: AbortSignal): Promise<ListedTool[]> {
      if (isFresh()) return tools;
      const refreshDone = startRefresh();
      if (isLoaded || !refreshDone) return tools;
      const waitMs = listHealth.hasFailed() || health.hasFailed() ? LIST_RETRY_WAIT_MS_MAX : LIST_TIMEOUT_MS;
      await abortable(Promise.race([refreshDone, Bun.sleep(waitMs)]), signal).catch(() => {});
      return tools;
    },

    /** Refreshes the list soon. Call this when the server announces a change, or a call fails. */
    expire(): void {
      isChangeAnnounced = true;
      if (!isFresh()) void startRefresh();
    },
  };
}

export type ToolList = ReturnType<typeof createToolList>;
