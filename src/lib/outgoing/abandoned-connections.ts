import { abortable } from "../abortable.ts";

/** Connections to one server that were given up while the system still tries to open them. */
const PER_SERVER_MAX = 16;
const LOOK_MS = 200;

/**
 * Counts connections that were given up before they were open. Each holds a descriptor until the system gives up too, so a
 * server that swallows packets, and is asked again and again, would use them up.
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
    /** @param ended fulfils or rejects when the system has given up. */
    add(origin: string, ended: Promise<unknown>): void {
      count(origin, 1);
      const end = () => count(origin, -1);
      ended.then(end, end);
    },

    /** Whether no further connection should be begun. */
    isFull,

    /** Fulfils when another connection may be begun. @throws the reason of the signal. */
    async wait(origin: string, signal: AbortSignal): Promise<void> {
      while (isFull(origin)) await abortable(Bun.sleep(LOOK_MS), signal);
    },
  };
}
