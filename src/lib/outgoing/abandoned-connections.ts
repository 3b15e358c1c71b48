import { abortable } from "../abortable.ts";

/** Maximum number of abandoned connections to one server that the operating system is still trying to open. */
const PER_SERVER_MAX = 16;
const POLL_MS = 200;

/**
 * Counts connections that were closed before they were open. Each uses a file descriptor until the operating system stops trying,
 * so repeated requests to a server that drops packets could exhaust the file descriptors.
 */
export function createAbandonedConnections() {
  const counts = new Map<string, number>();

  const changeCount = (origin: string, change: number): void => {
    const newCount = (counts.get(origin) ?? 0) + change;
    if (newCount > 0) counts.set(origin, newCount);
    else counts.delete(origin);
  };

  const isFull = (origin: string): boolean => (counts.get(origin) ?? 0) >= PER_SERVER_MAX;

  return {
    /** Counts an abandoned connection. @param ended settles when the operating system has stopped trying. */
    add(origin: string, ended: Promise<unknown>): void {
      changeCount(origin, 1);
      const end = () => changeCount(origin, -1);
      ended.then(end, end);
    },

    isFull,

    /** Waits until a new connection can be opened. @throws the signal's reason. */
    async waitForCapacity(origin: string, signal: AbortSignal): Promise<void> {
      while (isFull(origin)) await abortable(Bun.sleep(POLL_MS), signal);
    },
  };
}
