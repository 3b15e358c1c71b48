import { HttpConnection } from "./connection.ts";
import type { HttpTarget } from "./open-socket.ts";

/**
 * Maximum idle time of a reused connection. After a longer time, a load balancer or NAT may have dropped the connection without
 * notice, and a request would receive no response.
 */
export const IDLE_MS_MAX = 60_000;

export type PoolLimits = {
  /** Maximum number of idle connections per server. Others are closed after use. */
  idlePerServerMax: number;
  /** Maximum number of idle connections in total. */
  idleMax: number;
};

export type ConnectionPool = {
  /** Returns an idle connection that can still be used, or a new one. */
  acquire(server: HttpTarget): HttpConnection;
  /** Opens a new connection. */
  open(server: HttpTarget): HttpConnection;
};

/** Creates a pool of idle connections, which are grouped by the server's `origin`. */
export function createConnectionPool({ idlePerServerMax, idleMax }: PoolLimits): ConnectionPool {
  const idleConnections = new Map<string, HttpConnection[]>();
  let idleCount = 0;
  let isSweepScheduled = false;

  /** Closes connections that have been idle for too long. `acquire` closes only connections to servers that are still used. */
  function closeExpired(): void {
    isSweepScheduled = false;
    const beforeMs = Date.now() - IDLE_MS_MAX;
    for (const list of [...idleConnections.values()])
      for (const candidate of [...list]) if (candidate.idleSinceMs < beforeMs) candidate.discard();
    if (idleConnections.size > 0) scheduleSweep();
  }

  function scheduleSweep(): void {
    if (isSweepScheduled) return;
    isSweepScheduled = true;
    setTimeout(closeExpired, IDLE_MS_MAX).unref();
  }

  function addIdle(origin: string, connection: HttpConnection): void {
    const list = idleConnections.get(origin) ?? [];
    if (list.length >= idlePerServerMax || idleCount >= idleMax) return void connection.discard();
    idleConnections.set(origin, list);
    list.push(connection);
    idleCount += 1;
    scheduleSweep();
  }

  function removeIdle(origin: string, connection: HttpConnection): void {
    const list = idleConnections.get(origin);
    const index = list?.indexOf(connection) ?? -1;
    if (index < 0) return;
    list?.splice(index, 1);
    idleCount -= 1;
    if (list?.length === 0) idleConnections.delete(origin);
  }

  const open = (server: HttpTarget): HttpConnection =>
    new HttpConnection(
      server,
      (connection) => addIdle(server.origin, connection),
      (connection) => removeIdle(server.origin, connection),
    );

  return {
    open,
    acquire(server) {
      const { origin } = server;
      for (
        let candidate = idleConnections.get(origin)?.at(-1);
        candidate;
        candidate = idleConnections.get(origin)?.at(-1)
      ) {
        removeIdle(origin, candidate);
        const idleMs = Date.now() - candidate.idleSinceMs;
        if (candidate.isIdle && idleMs <= IDLE_MS_MAX && idleMs < candidate.keepAliveMs) return candidate;
        candidate.discard();
      }
      return open(server);
    },
  };
}
