import { abortable } from "../abortable.ts";

/** Limit of abandoned connections to one server that the system still tries to open. */
const PER_SERVER_MAX = 16;
const POLL_MS = 200;

/**
 * Counts connections that were abandoned before they were open. Each holds a file descriptor until the system gives up, so
 * repeated requests to a server that drops packets would exhaust the descriptors.
 */
export function createAbandonedConnections() {
  const counts = new Map<string, number>();

  const count = (origin: string, by: number): void => {
    const now = (counts.get(origin) ?? 0) + by;
    if (now > 0) counts.set(origin, now);
    else counts.delete(origin);
  };

  const isFull = (origin: string): boolean => (counts.get(origin) ?? 0) >= PER_SERVER_MAX;

  return {
    /** @param ended settles when the system has given up. */
    add(origin: string, ended: Promise<unknown>): void {
      count(origin, 1);
      const end = () => count(origin, -1);
      ended.then(end, end);
    },

    /** Whether no new connection should be opened. */
    isFull,

    /** Fulfills when a new connection may be opened. @throws the reason of the signal. */
    async wait(origin: string, signal: AbortSignal): Promise<void> {
      while (isFull(origin)) await abortable(Bun.sleep(POLL_MS), signal);
    },
  };
}
