import postgres from "postgres";
import { type DatabaseServer, startDatabaseServer } from "../acceptance/database-server.ts";
import { createSite } from "../acceptance/site.ts";
import { type Account, createTestClient } from "../support/client.ts";
import { startMockProvider } from "../support/mock-provider/server.ts";
import { startPgBouncer } from "../support/pgbouncer.ts";
import { startRedis } from "../support/redis.ts";
import { type Instance, startInstance } from "./instance.ts";
import { createNamespace, hasNamespaces } from "./namespace.ts";

/** What carries the bus. Behind PgBouncer, in transaction mode, it is a Postgres table. */
export type BusForm = "Redis" | "Postgres" | "PgBouncer";
export type World = Awaited<ReturnType<typeof openWorld>>;

const MODEL = "compatible/one";
/** An answer takes two seconds, so that faults hit it halfway. */
const ANSWER = { pieces: Array.from({ length: 80 }, (_, n) => `${n}é😀 `), pieceDelayMs: 25 };
const HEALTHY_POLL_MS = 50;
const HEALTHY_WAIT_MS = 20_000;

const startPooler = ({ socketDirectory, port }: DatabaseServer) =>
  startPgBouncer({ socketDirectory, port, mode: "transaction", poolSize: 20, users: ["parley", "postgres"] });

function withPort(address: string, port: number | undefined): string {
  const url = new URL(address);
  if (port !== undefined) url.port = String(port);
  return url.href;
}

/** Instances on one database, with one form of the bus between them, and the servers that they need. */
export async function openWorld(form: BusForm, { instances: count }: { instances: number }) {
  const server = await startDatabaseServer();
  const redis = form === "Redis" ? await startRedis() : undefined;
  const provider = startMockProvider();
  provider.script("one", ANSWER);
  const directUrl = await server.createDatabase();
  const pooler = form === "PgBouncer" ? await startPooler(server) : undefined;
  const databaseUrl = withPort(directUrl, pooler?.port);
  const site = await createSite({
    env: {
      APP_ENV: "development",
      JWT_SECRET: "the secret that the instances of a drill share",
      AI_MODELS: MODEL,
      RATE_LIMIT_ENABLED: "false",
      REGISTRATION: "open",
    },
  });
  const instances: Instance[] = [];
  const servers = { databaseUrl, redisUrl: redis?.url, providerUrl: provider.openaiUrl };
  for (let n = 0; n < count; n += 1) {
    const namespace = n === 0 && redis && hasNamespaces ? createNamespace() : undefined;
    instances.push(await startInstance(site, servers, namespace));
  }
  // Reads the stored state directly, past every relay that the drills cut.
  const sql = postgres(directUrl, { max: 2, onnotice: () => {} });

  async function isHealthy({ url }: Instance): Promise<boolean> {
    const response = await fetch(`${url}/readyz?verbose`).catch(() => null);
    // Behind PgBouncer, instances receive each other's events within a second, not at once. The check reports that.
    return response?.status === 200 && (form === "PgBouncer" || (await response.text()).includes("[+]bus ok"));
  }

  return {
    form,
    server,
    redis,
    pooler,
    instances,
    sql,
    readLog: site.readLog,

    /** Picks a running instance by number. */
    pickUrl(choice: number): string {
      const running = instances.filter((instance) => instance.isRunning());
      return (running[choice % Math.max(1, running.length)] ?? instances[0])?.url ?? "";
    },

    register: (): Promise<Account> => createTestClient(instances[0]?.url ?? "").register(),

    /** Waits until every instance is ready and receives the others' events. @throws after 20 seconds. */
    async waitHealthy(): Promise<void> {
      const endMs = performance.now() + HEALTHY_WAIT_MS;
      while (!(await Promise.all(instances.map(isHealthy))).every(Boolean)) {
        if (performance.now() > endMs) throw new Error(`The instances did not become healthy: ${site.readLog()}`);
        await Bun.sleep(HEALTHY_POLL_MS);
      }
    },

    async close(): Promise<void> {
      await sql.end({ timeout: 1 });
      await site.remove();
      for (const instance of instances) instance.closeNetworks();
      await pooler?.stop();
      await redis?.stop();
      await server.stop();
      await provider.stop();
    },
  };
}
