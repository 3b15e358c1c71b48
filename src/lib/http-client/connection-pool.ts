import { HttpConnection } from "./connection.ts";
import type { HttpTarget } from "./open-socket.ts";

/**
 * Connections that were idle for longer are not reused: a load balancer or NAT in between may have dropped them silently, and
 * the request would get no response.
 */
export const IDLE_MS_MAX = 60_000;

export type PoolLimits = {
  /** Idle connections per server; excess ones are closed after use. */
  idlePerServerMax: number;
  /** Idle connections in total. */
  idleMax: number;
};

export type ConnectionPool = {
  /** An idle connection, or a new one. An idle connection is checked again before it is returned. */
  take(server: HttpTarget): HttpConnection;
  /** Always a new connection. */
  open(server: HttpTarget): HttpConnection;
};

/** Keeps connections for reuse, by the server's `origin`. */
export function createConnectionPool({ idlePerServerMax, idleMax }: PoolLimits): ConnectionPool {
  const idle = new Map<string, HttpConnection[]>();
  let idleCount = 0;
  let isSweeping = false;

  /** Closes expired connections, which otherwise would stay open if their server is never used again. */
  function sweep(): void {
    isSweeping = false;
    const beforeMs = Date.now() - IDLE_MS_MAX;
    for (const list of [...idle.values()])
      for (const waiting of [...list]) if (waiting.idleSinceMs < beforeMs) waiting.discard();
    if (idle.size > 0) planSweep();
  }

  function planSweep(): void {
    if (isSweeping) return;
    isSweeping = true;
    setTimeout(sweep, IDLE_MS_MAX).unref();
  }

  function release(origin: string, connection: HttpConnection): void {
    const list = idle.get(origin) ?? [];
    if (list.length >= idlePerServerMax || idleCount >= idleMax) return void connection.discard();
    idle.set(origin, list);
    list.push(connection);
    idleCount += 1;
    planSweep();
  }

  function forget(origin: string, connection: HttpConnection): void {
    const list = idle.get(origin);
    const at = list?.indexOf(connection) ?? -1;
    if (at < 0) return;
    list?.splice(at, 1);
    idleCount -= 1;
    if (list?.length === 0) idle.delete(origin);
  }

  const open = (server: HttpTarget): HttpConnection =>
    new HttpConnection(
      server,
      (connection) => release(server.origin, connection),
      (connection) => forget(server.origin, connection),
    );

  return {
    open,
    take(server) {
      const { origin } = server;
      for (let waiting = idle.get(origin)?.at(-1); waiting; waiting = idle.get(origin)?.at(-1)) {
        forget(origin, waiting);
        const waitedMs = Date.now() - waiting.idleSinceMs;
        if (waiting.isIdle && waitedMs <= IDLE_MS_MAX && waitedMs < waiting.keepAliveMs) return waiting;
        waiting.discard();
      }
      return open(server);
    },
  };
}
