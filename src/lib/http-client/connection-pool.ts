import { HttpConnection } from "./connection.ts";
import type { HttpTarget } from "./open-socket.ts";

/**
 * One that has waited longer is not used again: what lies between (a load balancer, a NAT) may have forgotten it by then
 * without a word, and a request would wait in vain.
 */
export const IDLE_MS_MAX = 60_000;

export type PoolLimits = {
  /** Connections to one server that wait for the next request; beyond that they are closed after use. */
  idlePerServerMax: number;
  /** The same for all servers together. */
  idleMax: number;
};

export type ConnectionPool = {
  /** A connection that waits, or a new one. What waits is looked at again: it is handed out only if it is idle and open. */
  take(server: HttpTarget): HttpConnection;
  /** A new connection, whatever waits. */
  open(server: HttpTarget): HttpConnection;
};

/** Keeps connections for the next request to the same server, by the server's `origin`. */
export function createConnectionPool({ idlePerServerMax, idleMax }: PoolLimits): ConnectionPool {
  const idle = new Map<string, HttpConnection[]>();
  let idleCount = 0;
  let isSweeping = false;

  /** Closes what has waited too long: a server that nobody asks again would hold its connections for ever. */
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

  function giveBack(origin: string, connection: HttpConnection): void {
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
      (connection) => giveBack(server.origin, connection),
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
