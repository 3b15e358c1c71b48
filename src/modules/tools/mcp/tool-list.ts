import { abortable } from "../../../lib/abortable.ts";
import type { Log } from "../../../lib/log.ts";
import { describeError, isOurs, refusesUser } from "./describe-error.ts";
import { createHealth, type Health } from "./health.ts";
import { LIST_FRESH_MS, LOOK_GAP_MS, LOOK_TIMEOUT_MS, RELOOK_WAIT_MS } from "./limits.ts";
import { type ListedTool, readTools } from "./read-tools.ts";

type Options = {
  server: string;
  /** As the server describes them. */
  listTools(signal: AbortSignal): Promise<unknown[]>;
  /** Whether this list is that of everybody, of which the administrator is told. */
  isShared: boolean;
  /** Of the server, whoever asks it. */
  health: Health;
  /** Hides what no log may hold. */
  mask(text: string): string;
  log: Log;
};

/** The tools of a server, as one user (or everybody) is told of them. A server that fails has none until it recovers. */
export function createToolList({ server, listTools, isShared, health, mask, log }: Options) {
  /** Of this list alone: a server may refuse one user and serve the others. */
  const own = createHealth();
  let tools: ListedTool[] = [];
  let isKnown = false;
  let isChanged = false;
  let lookedAtMs = Number.NEGATIVE_INFINITY;
  let looking: Promise<void> | null = null;
  let told = "";

  async function look(): Promise<void> {
    isChanged = false;
    lookedAtMs = performance.now();
    const signal = AbortSignal.timeout(LOOK_TIMEOUT_MS);
    try {
      const listed = await abortable(listTools(signal), signal);
      const read = readTools(server, listed);
      ({ tools } = read);
      isKnown = true;
      own.succeed();
      health.succeed();
      tell(read.problems);
    } catch (error) {
      // What this user may not do, and what we do not send, says nothing of the server.
      (refusesUser(error) || isOurs(error) ? own : health).fail();
      tools = [];
      isKnown = false;
      told = "";
      log.warn({ mcp_server: server, reason: mask(describeError(error)) }, "MCP server cannot be asked for its tools");
    } finally {
      looking = null;
    }
  }

  /** Names for the administrator, each time that they have changed. */
  function tell(problems: readonly string[]): void {
    const names = tools.map(({ name }) => name);
    const state = JSON.stringify([names, problems]);
    if (state === told) return;
    told = state;
    log[isShared ? "info" : "debug"]({ mcp_server: server, tools: names }, "tools of an MCP server");
    if (problems.length > 0)
      log.warn({ mcp_server: server, problems: problems.map(mask) }, "tools of an MCP server are left out");
  }

  function startLook(): Promise<void> | null {
    if (looking || !own.canLook() || !health.canLook()) return looking;
    looking = look();
    return looking;
  }

  function isFresh(): boolean {
    const ageMs = performance.now() - lookedAtMs;
    return isKnown && ageMs < (isChanged ? LOOK_GAP_MS : LIST_FRESH_MS);
  }

  return {
    /** The tools now. Waits only where none are known, and not for long; never rejects. */
    async get(signal: AbortSignal): Promise<ListedTool[]> {
      if (isFresh()) return tools;
      const pending = startLook();
      if (isKnown || !pending) return tools;
      const waitMs = own.hasFailed() || health.hasFailed() ? RELOOK_WAIT_MS : LOOK_TIMEOUT_MS;
      await abortable(Promise.race([pending, Bun.sleep(waitMs)]), signal).catch(() => {});
      return tools;
    },

    /** Asks again soon: the server says that its tools have changed, or a call has failed. */
    expire(): void {
      isChanged = true;
      if (!isFresh()) void startLook();
    },
  };
}

export type ToolList = ReturnType<typeof createToolList>;
