import postgres from "postgres";
import { type DatabaseServer, startDatabaseServer } from "../acceptance/database-server.ts";
import { createInstallation } from "../acceptance/installation.ts";
import { type Account, createTestClient } from "../support/client.ts";
import { startMockProvider } from "../support/mock-provider/server.ts";
import { startPgBouncer } from "../support/pgbouncer.ts";
import { startRedis } from "../support/redis.ts";
import { type Instance, startInstance } from "./instance.ts";
import { canUseNamespaces, createNamespace } from "./namespace.ts";

/** The kind of bus between the instances. Behind PgBouncer, the instances poll a Postgres table. */
export type BusKind = "Redis" | "Postgres" | "PgBouncer";
export type Cluster = Awaited<ReturnType<typeof startCluster>>;

const MODEL = "compatible/one";
/** Each answer takes two seconds, so that faults occur while it is in progress. */
const ANSWER_SCRIPT = { pieces: Array.from({ length: 80 }, (_, n) => `${n}é😀 `), pieceDelayMs: 25 };
const HEALTHY_POLL_MS = 50;
const HEALTHY_TIMEOUT_MS = 20_000;

const startPooler = ({ socketDirectory, port }: DatabaseServer) =>
  startPgBouncer({ socketDirectory, port, mode: "transaction", poolSize: 20, users: ["parley", "postgres"] });

function replacePort(originalUrl: string, port: number | undefined): string {
  const url = new URL(originalUrl);
  if (port !== undefined) url.port = String(port);
  return url.href;
}

/** Starts instances with a shared database and one kind of bus, and the servers that they need. */
export async function startCluster(busKind: BusKind, { instances: instanceCount }: { instances: number }) {
  const server = await startDatabaseServer();
  const redis = busKind === "Redis" ? await startRedis() : undefined;
  const provider = startMockProvider();
  provider.script("one", ANSWER_SCRIPT);
  const directUrl = await server.createDatabase();
  const pooler = busKind === "PgBouncer" ? await startPooler(server) : undefined;
  const databaseUrl = replacePort(directUrl, pooler?.port);
  const installation = await createInstallation({
    env: {
      APP_ENV: "development",
      JWT_SECRET: "a secret shared by all test instances",
      AI_MODELS: MODEL,
      RATE_LIMIT_ENABLED: "false",
      REGISTRATION: "open",
    },
  });
  const instances: Instance[] = [];
  const servers = { databaseUrl, redisUrl: redis?.url, providerUrl: provider.openaiUrl };
  for (let n = 0; n < instanceCount; n += 1) {
    const namespace = n === 0 && redis && canUseNamespaces ? createNamespace() : undefined;
    instances.push(await startInstance(installation, servers, namespace));
  }
  // Connects directly to the server and not through a relay, because injected faults interrupt the relays.
  const sql = postgres(directUrl, { max: 2, onnotice: () => {} });

  async function isHealthy({ url }: Instance): Promise<boolean> {
    const response = await fetch(`${url}/readyz?verbose`).catch(() => null);
    // Behind PgBouncer, the bus check fails because instances receive each other's events with a delay of up to a second.
    return response?.status === 200 && (busKind === "PgBouncer" || (await response.text()).includes("[+]bus ok"));
  }

  return {
    busKind,
    server,
    redis,
    pooler,
    instances,
    sql,
    readLog: installation.readLog,

    /** Returns the URL of a running instance. `choice` can be any non-negative integer. */
    pickUrl(choice: number): string {
      const runningInstances = instances.filter((instance) => instance.isRunning());
      return (runningInstances[choice % Math.max(1, runningInstances.length)] ?? instances[0])?.url ?? "";
    },

    register: (): Promise<Account> => createTestClient(instances[0]?.url ?? "").register(),

    /** Waits until every instance is ready and receives the other instances' events. @throws after 20 seconds. */
    async waitUntilHealthy(): Promise<void> {
      const deadlineMs = performance.now() + HEALTHY_TIMEOUT_MS;
      while (!(await Promise.all(instances.map(isHealthy))).every(Boolean)) {
        if (performance.now() > deadlineMs)
          throw new Error(`The instances did not become healthy: ${installation.readLog()}`);
        await Bun.sleep(HEALTHY_POLL_MS);
      }
    },

    async close(): Promise<void> {
      await sql.end({ timeout: 1 });
      await installation.remove();
      for (const instance of instances) instance.stopRelays();
      await pooler?.stop();
      await redis?.stop();
      await server.stop();
      await provider.stop();
    },
  };
}
