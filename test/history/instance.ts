import { findFreePort } from "../acceptance/database-server.ts";
import type { Parley, Site } from "../acceptance/site.ts";
import { startRelay } from "../support/relay.ts";
import type { Namespace } from "./namespace.ts";

type Servers = {
  providerUrl: string;
  databaseUrl: string;
  redisUrl: string | undefined;
};

export type Instance = Awaited<ReturnType<typeof startInstance>>;

/**
 * An instance in a separate process, with a relay to each server that can be cut.
 * @param namespace the network namespace to run in; absent: that of this process.
 */
export async function startInstance(
  site: Site,
  { databaseUrl, redisUrl, providerUrl }: Servers,
  namespace?: Namespace,
) {
  const port = await findFreePort();
  const url = `http://${namespace?.address ?? "127.0.0.1"}:${port}`;
  const relayTo = (address: string) => relay(address, namespace?.hostAddress ?? "127.0.0.1");
  const provider = relayTo(providerUrl);
  const database = relayTo(databaseUrl);
  const redis = redisUrl === undefined ? undefined : relayTo(redisUrl);
  const env = {
    PORT: String(port),
    DATABASE_URL: database.url,
    COMPATIBLE_BASE_URL: provider.url,
    ...(redis && { REDIS_URL: redis.url }),
  };
  let parley: Parley | null = null;

  async function start(until: "listening" | "ready" = "ready"): Promise<void> {
    parley = await site.start({ env, until, ...(namespace && { network: namespace }) });
  }

  await start();
  return {
    url,
    namespace,
    start,
    networks: { database: database.relay, redis: redis?.relay },
    isRunning: () => parley !== null,

    /** Ends it as a power failure would. */
    async kill(): Promise<void> {
      const killed = parley;
      parley = null;
      await killed?.kill();
    },

    /** Shuts it down gracefully. */
    async stop(): Promise<void> {
      const stopped = parley;
      parley = null;
      await stopped?.stop();
    },

    /** Pauses its process; `thaw` resumes it. */
    freeze: () => void (parley && process.kill(parley.pid, "SIGSTOP")),
    thaw: () => void (parley && process.kill(parley.pid, "SIGCONT")),

    closeNetworks(): void {
      for (const { relay } of [database, provider, ...(redis ? [redis] : [])]) relay.stop();
    },
  };
}

/** A relay in front of a server, which can be cut. */
function relay(address: string, hostname: string) {
  const url = new URL(address);
  const relay = startRelay({ hostname, port: 0 }, { hostname: url.hostname, port: Number(url.port) });
  url.hostname = hostname;
  url.port = String(relay.port);
  return { relay, url: url.href };
}
