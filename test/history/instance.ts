import { findFreePort } from "../acceptance/database-server.ts";
import type { Installation, Parley } from "../acceptance/installation.ts";
import { startRelay } from "../support/relay.ts";
import type { Namespace } from "./namespace.ts";

type Servers = {
  providerUrl: string;
  databaseUrl: string;
  redisUrl: string | undefined;
};

export type Instance = Awaited<ReturnType<typeof startInstance>>;

/**
 * Starts an instance in a separate process. It connects to each server through a relay that faults can interrupt.
 * @param namespace the network namespace to run in, if not this process's.
 */
export async function startInstance(
  installation: Installation,
  { databaseUrl, redisUrl, providerUrl }: Servers,
  namespace?: Namespace,
) {
  const port = await findFreePort();
  const url = `http://${namespace?.address ?? "127.0.0.1"}:${port}`;
  const startRelayTo = (serverUrl: string) => startServerRelay(serverUrl, namespace?.hostAddress ?? "127.0.0.1");
  const provider = startRelayTo(providerUrl);
  const database = startRelayTo(databaseUrl);
  const redis = redisUrl === undefined ? undefined : startRelayTo(redisUrl);
  const env = {
    PORT: String(port),
    DATABASE_URL: database.url,
    COMPATIBLE_BASE_URL: provider.url,
    ...(redis && { REDIS_URL: redis.url }),
  };
  let parley: Parley | null = null;

  async function start(until: "listening" | "ready" = "ready"): Promise<void> {
    parley = await installation.start({ env, until, ...(namespace && { network: namespace }) });
  }

  await start();
  return {
    url,
    namespace,
    start,
    relays: { database: database.relay, redis: redis?.relay },
    isRunning: () => parley !== null,

    /** Kills the instance with SIGKILL. */
    async kill(): Promise<void> {
      const currentProcess = parley;
      parley = null;
      await currentProcess?.kill();
    },

    /** Shuts the instance down gracefully. */
    async stop(): Promise<void> {
      const currentProcess = parley;
      parley = null;
      await currentProcess?.stop();
    },

    /** Pauses the process until `thaw` is called. */
    freeze: () => void (parley && process.kill(parley.pid, "SIGSTOP")),
    thaw: () => void (parley && process.kill(parley.pid, "SIGCONT")),

    stopRelays(): void {
      for (const { relay } of [database, provider, ...(redis ? [redis] : [])]) relay.stop();
    },
  };
}

/** Starts a relay to a server. `hostname` is the address on which the relay listens. */
function startServerRelay(serverUrl: string, hostname: string) {
  const url = new URL(serverUrl);
  const serverRelay = startRelay({ hostname, port: 0 }, { hostname: url.hostname, port: Number(url.port) });
  url.hostname = hostname;
  url.port = String(serverRelay.port);
  return { relay: serverRelay, url: url.href };
}
