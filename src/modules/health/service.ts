import { countConnections, type Database, findLastOutOfSpaceMs, getReservedPool } from "../../db/client.ts";
import { build } from "../../lib/build.ts";
import type { Lifecycle } from "../../lib/lifecycle.ts";
import type { Metrics } from "../../lib/metrics.ts";
import type { Bus } from "../../realtime/bus.ts";
import * as queries from "./queries.ts";

/** How long a successful database ping is cached. */
const CHECK_FRESH_MS = 1_000;
/** The longest that a response waits for a new ping. */
const CHECK_WAIT_MS = 80;
/** A slow database (a busy pool) counts as alive for this long after its last successful ping. */
const CHECK_GRACE_MS = 3_000;
/** Timeout of a ping (the server may have vanished silently), so that the next one can use a new connection. */
const CHECK_ABANDON_MS = 5_000;
/** With less free disk space, Postgres can't store anything. */
const FREE_BYTES_MIN = 4 * 1024 * 1024;
/** The longest that `/version` waits for the database. */
const DETAIL_WAIT_MS = 500;

type Check = { name: string; ok: boolean };

type Version = { version: string; commit: string; built_at: string | null; bun: string; postgres?: string };

/** Status of this instance for probes and monitoring. Public; contains nothing about users. */
export interface HealthService {
  /** Whether this instance should get traffic; responds within 100 ms. `exclude` names checks to skip. */
  checkReadiness(exclude?: readonly string[]): Promise<{ ready: boolean; checks: Check[] }>;

  /** Versions; `postgres` is missing while the database is unreachable. */
  getVersion(): Promise<Version>;

  /** The metrics in Prometheus text format, without a database query. */
  exposeMetrics(): Promise<string>;
}

type Dependencies = {
  database: Database;
  lifecycle: Lifecycle;
  metrics: Metrics;
  /** The configured models and their state. */
  listModels?(): { id: string; state: "available" | "cooling_down" }[];
  /** Absent if there is none. */
  redis?: { isAlive(): boolean } | null;
  /** Absent: there are no other instances. */
  bus?: Pick<Bus, "scope" | "isHealthy">;
  /** Absent: backups aren't scheduled. */
  backups?: { isHealthy(): boolean } | null;
  /** Free bytes on the embedded database's disk; null if unknown. Absent without an embedded database. */
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
  let lastAliveAt = Number.NEGATIVE_INFINITY;
  let lastFailed = false;
  let running: Promise<void> | undefined;
  let spaceSeenAtMs = performance.now();
  let trying: Promise<void> | undefined;
  let serverVersion: string | null = null;

  /** One ping at a time: a flood of probes causes one query. */
  function refresh(): Promise<void> {
    running ??= Promise.race([queries.ping(getReservedPool(database)), rejectAfter(CHECK_ABANDON_MS)])
      .then(
        () => {
          lastAliveAt = performance.now();
          lastFailed = false;
        },
        () => {
          lastFailed = true;
        },
      )
      .finally(() => {
        running = undefined;
      });
    return running;
  }

  async function isDatabaseAlive(): Promise<boolean> {
    const ageMs = () => performance.now() - lastAliveAt;
    if (!lastFailed && ageMs() < CHECK_FRESH_MS) return true;
    await Promise.race([refresh(), Bun.sleep(CHECK_WAIT_MS)]);
    return !lastFailed && ageMs() < CHECK_GRACE_MS;
  }

  /** After the server was out of space, stay unready until a test write succeeds. */
  async function hasRoom(): Promise<boolean> {
    if (findLastOutOfSpaceMs() < spaceSeenAtMs) return true;
    const startedAtMs = performance.now();
    trying ??= queries
      .tryWrite(getReservedPool(database))
      .then(
        () => {
          spaceSeenAtMs = startedAtMs;
        },
        () => {},
      )
      .finally(() => {
        trying = undefined;
      });
    await Promise.race([trying, Bun.sleep(CHECK_WAIT_MS)]);
    return findLastOutOfSpaceMs() < spaceSeenAtMs;
  }

  async function checkDisk(): Promise<Check[]> {
    const [isRoomThere, freeBytes] = await Promise.all([
      hasRoom(),
      Promise.race([findFreeBytes?.(), Bun.sleep(CHECK_WAIT_MS)]),
    ]);
    // For an external server, only a full disk is known.
    if (typeof freeBytes !== "number") return isRoomThere ? [] : [{ name: "disk", ok: false }];
    return [{ name: "disk", ok: isRoomThere && freeBytes >= FREE_BYTES_MIN }];
  }

  return {
    async checkReadiness(exclude = []) {
      const all: Check[] = [
        { name: "lifecycle", ok: lifecycle.phase === "starting" || lifecycle.phase === "ready" },
        { name: "migrations", ok: lifecycle.phase !== "starting" },
      ];
      if (!exclude.includes("database")) all.push({ name: "database", ok: await isDatabaseAlive() });
      if (!exclude.includes("disk")) all.push(...(await checkDisk()));
      const needed = all.filter(({ name }) => !exclude.includes(name));
      // Reported, but not required: an instance works without them.
      const informational: Check[] = [];
      if (redis !== null) informational.push({ name: "redis", ok: redis.isAlive() });
      if (bus?.scope === "instances") informational.push({ name: "bus", ok: bus.isHealthy() });
      if (backups !== null) informational.push({ name: "backup", ok: backups.isHealthy() });
      return {
        ready: needed.every(({ ok }) => ok),
        checks: [...needed, ...informational.filter(({ name }) => !exclude.includes(name))],
      };
    },

    async getVersion() {
      if (serverVersion === null && lifecycle.phase === "ready") {
        const asked = queries.findServerVersion(database).catch(() => null);
        serverVersion = await Promise.race([asked, Bun.sleep(DETAIL_WAIT_MS).then(() => null)]);
      }
      return {
        version: build.version,
        commit: build.commit,
        built_at: build.builtAt,
        bun: Bun.version,
        ...(serverVersion !== null && { postgres: serverVersion }),
      };
    },

    async exposeMetrics() {
      for (const [state, count] of Object.entries(countConnections(database)))
        metrics.dbPoolConnections.set({ state }, count);
      // Computed here, because a model becomes available when its cooldown ends, without any event.
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
