import { countConnections, type Database, findLastOutOfSpaceMs, getReservedPool } from "../../db/client.ts";
import { build } from "../../lib/build.ts";
import type { Lifecycle } from "../../lib/lifecycle.ts";
import type { Metrics } from "../../lib/metrics.ts";
import type { Bus } from "../../realtime/bus.ts";
import * as queries from "./queries.ts";

/** The time for which a successful database ping is cached. */
const PING_CACHE_MS = 1_000;
/** The maximum time that a response waits for a new ping. */
const CHECK_TIMEOUT_MS = 80;
/** The time after the last successful ping for which a slow database still counts as available. */
const DATABASE_GRACE_MS = 3_000;
/** The timeout of a ping, so that the next ping can use a new connection if the server doesn't respond. */
const PING_TIMEOUT_MS = 5_000;
/** The minimum free disk space that Postgres needs to store data. */
const FREE_BYTES_MIN = 4 * 1024 * 1024;
/** The maximum time that `/version` waits for the database. */
const VERSION_TIMEOUT_MS = 500;

type Check = { name: string; ok: boolean };

type Version = { version: string; commit: string; built_at: string | null; bun: string; postgres?: string };

/** Reports this instance's status for probes and monitoring. The status is public and contains no user data. */
export interface HealthService {
  /** Checks within 100 ms whether this instance should receive traffic. `exclude` lists the checks to skip. */
  checkReadiness(exclude?: readonly string[]): Promise<{ ready: boolean; checks: Check[] }>;

  /** Returns the versions. `postgres` is absent until the database has been reached. */
  getVersion(): Promise<Version>;

  /** Returns the metrics in Prometheus's text format, without a database query. */
  renderMetrics(): Promise<string>;
}

type Dependencies = {
  database: Database;
  lifecycle: Lifecycle;
  metrics: Metrics;
  /** Lists the configured models and their state. */
  listModels?(): { id: string; state: "available" | "cooling_down" }[];
  /** Absent if Redis isn't used. */
  redis?: { isAvailable(): boolean } | null;
  /** Absent if there are no other instances. */
  bus?: Pick<Bus, "scope" | "isHealthy">;
  /** Absent if backups aren't scheduled. */
  backups?: { isHealthy(): boolean } | null;
  /** Finds the free bytes on the embedded database's disk, or null if unknown. Absent without an embedded database. */
  findFreeBytes?: (() => Promise<number | null>) | null;
};

export function createHealthService(deps: Dependencies): HealthService {
  const {
    database,
    lifecycle,
    metrics,
    listModels = () => [],
    redis = null,
    bus,
    backups = null,
    findFreeBytes = null,
  } = deps;
  let lastAliveAtMs = Number.NEGATIVE_INFINITY;
  let hasPingFailed = false;
  let currentPing: Promise<void> | undefined;
  let lastHadSpaceAtMs = performance.now();
  let testWrite: Promise<void> | undefined;
  let serverVersion: string | null = null;

  /** Pings the database. Concurrent probes share one query. */
  function pingDatabase(): Promise<void> {
    currentPing ??= Promise.race([queries.ping(getReservedPool(database)), rejectAfter(PING_TIMEOUT_MS)])
      .then(
        () => {
          lastAliveAtMs = performance.now();
          hasPingFailed = false;
        },
        () => {
          hasPingFailed = true;
        },
      )
      .finally(() => {
        currentPing = undefined;
      });
    return currentPing;
  }

  async function isDatabaseAlive(): Promise<boolean> {
    const ageMs = () => performance.now() - lastAliveAtMs;
    if (!hasPingFailed && ageMs() < PING_CACHE_MS) return true;
    await Promise.race([pingDatabase(), Bun.sleep(CHECK_TIMEOUT_MS)]);
    return !hasPingFailed && ageMs() < DATABASE_GRACE_MS;
  }

  /** Returns whether the server has disk space. After it has run out, returns false until a test write succeeds. */
  async function hasDiskSpace(): Promise<boolean> {
    if (findLastOutOfSpaceMs() < lastHadSpaceAtMs) return true;
    const startedAtMs = performance.now();
    testWrite ??= queries
      .tryWrite(getReservedPool(database))
      .then(
        () => {
          lastHadSpaceAtMs = startedAtMs;
        },
        () => {},
      )
      .finally(() => {
        testWrite = undefined;
      });
    await Promise.race([testWrite, Bun.sleep(CHECK_TIMEOUT_MS)]);
    return findLastOutOfSpaceMs() < lastHadSpaceAtMs;
  }

  async function checkDisk(): Promise<Check[]> {
    const [hasSpace, freeBytes] = await Promise.all([
      hasDiskSpace(),
      Promise.race([findFreeBytes?.(), Bun.sleep(CHECK_TIMEOUT_MS)]),
    ]);
    // An external server's free space is unknown, so the check is reported only if the disk is full.
    if (typeof freeBytes !== "number") return hasSpace ? [] : [{ name: "disk", ok: false }];
    return [{ name: "disk", ok: hasSpace && freeBytes >= FREE_BYTES_MIN }];
  }

  return {
    async checkReadiness(exclude = []) {
      const checks: Check[] = [
        { name: "lifecycle", ok: lifecycle.phase === "starting" || lifecycle.phase === "ready" },
        { name: "migrations", ok: lifecycle.phase !== "starting" },
      ];
      if (!exclude.includes("database")) checks.push({ name: "database", ok: await isDatabaseAlive() });
      if (!exclude.includes("disk")) checks.push(...(await checkDisk()));
      const required = checks.filter(({ name }) => !exclude.includes(name));
      // These are reported, but not required, because an instance works without them.
      const informational: Check[] = [];
      if (redis !== null) informational.push({ name: "redis", ok: redis.isAvailable() });
      if (bus?.scope === "instances") informational.push({ name: "bus", ok: bus.isHealthy() });
      if (backups !== null) informational.push({ name: "backup", ok: backups.isHealthy() });
      return {
        ready: required.every(({ ok }) => ok),
        checks: [...required, ...informational.filter(({ name }) => !exclude.includes(name))],
      };
    },

    async getVersion() {
      if (serverVersion === null && lifecycle.phase === "ready") {
        const lookup = queries.findServerVersion(database).catch(() => null);
        serverVersion = await Promise.race([lookup, Bun.sleep(VERSION_TIMEOUT_MS).then(() => null)]);
      }
      return {
        version: build.version,
        commit: build.commit,
        built_at: build.builtAt,
        bun: Bun.version,
        ...(serverVersion !== null && { postgres: serverVersion }),
      };
    },

    async renderMetrics() {
      for (const [state, count] of Object.entries(countConnections(database)))
        metrics.dbPoolConnections.set({ state }, count);
      // Computed here, because there is no event when a model becomes available after its cooldown.
      for (const { id, state } of listModels())
        metrics.aiModelAvailable.set({ model: id }, state === "available" ? 1 : 0);
      if (bus) metrics.busHealthy.set(bus.isHealthy() ? 1 : 0);
      return await metrics.registry.metrics();
    },
  };
}

async function rejectAfter(delayMs: number): Promise<never> {
  await Bun.sleep(delayMs);
  throw new Error(`no response within ${delayMs} ms`);
}
