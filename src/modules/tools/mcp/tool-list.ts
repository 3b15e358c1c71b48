import { abortable } from "../../../lib/abortable.ts";
import type { Log } from "../../../lib/log.ts";
import { describeError, isOwnError, refusesUser } from "./describe-error.ts";
import { createHealth, type Health } from "./health.ts";
import { LIST_FRESH_MS, LIST_GAP_MS, LIST_RETRY_WAIT_MS, LIST_TIMEOUT_MS } from "./limits.ts";
import { type ListedTool, readTools } from "./read-tools.ts";

type Options = {
  server: string;
  /** Lists the tools as the server describes them. */
  listTools(signal: AbortSignal): Promise<unknown[]>;
  /** Whether all users share this list; its tools are then logged at info level. */
  isShared: boolean;
  /** The server's health, across all users. */
  health: Health;
  /** Hides what must not be logged. */
  mask(text: string): string;
  log: Log;
};

/** The tools of a server for one user, or for all users. A failing server has none until it recovers. */
export function createToolList({ server, listTools, isShared, health, mask, log }: Options) {
  /** The health of this list alone: a server may reject one user and serve others. */
  const listHealth = createHealth();
  let tools: ListedTool[] = [];
  let isKnown = false;
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
      isKnown = true;
      listHealth.succeed();
      health.succeed();
      logTools(read.problems);
    } catch (error) {
      // A user's missing permission, or a request that Parley refused to send, says nothing about the server.
      (refusesUser(error) || isOwnError(error) ? listHealth : health).fail();
      tools = [];
      isKnown = false;
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
    return isKnown && ageMs < (isChanged ? LIST_GAP_MS : LIST_FRESH_MS);
  }

  return {
    /** Returns the current tools. Waits briefly, and only if none are known; never rejects. */
    async get(signal: AbortSignal): Promise<ListedTool[]> {
      if (isFresh()) return tools;
      const pending = startRefresh();
      if (isKnown || !pending) return tools;
      const waitMs = listHealth.hasFailed() || health.hasFailed() ? LIST_RETRY_WAIT_MS : LIST_TIMEOUT_MS;
      await abortable(Promise.race([pending, Bun.sleep(waitMs)]), signal).catch(() => {});
      return tools;
    },

    /** Refreshes the list soon: the server announced a change, or a call failed. */
    expire(): void {
      isChanged = true;
      if (!isFresh()) void startRefresh();
    },
  };
}

export type ToolList = ReturnType<typeof createToolList>;
