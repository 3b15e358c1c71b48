import { readDatabaseAddress } from "../../db/address.ts";
import { type Database, getPooling } from "../../db/client.ts";
import { describeConnectError, EXTRA_CONNECTIONS_MAX } from "../../db/connect.ts";
import { explainDatabaseError } from "../../db/explain.ts";
import { checkMigratable, listMigrations, MigrationError } from "../../db/migrate.ts";
import { prepareSession } from "../../db/session-check.ts";
import { checkServer, checkWritable, DatabaseNotReadyError, UnsuitableDatabaseError } from "../../db/suitability.ts";
import { abortable } from "../../lib/abortable.ts";
import { formatQuantity } from "../selftest/figures.ts";
import { type DoctorCheck, type DoctorContext, REQUEST_TIMEOUT_MS } from "./check.ts";
import { createWarningCollector, openDoctorDatabase } from "./database-connection.ts";
import { readDatabaseFacts } from "./database-facts.ts";
import { type Finding, ok, problem, skipped, warning } from "./finding.ts";
import { judgeDatabase } from "./judge-database.ts";

export const databaseCheck: DoctorCheck = {
  name: "database",
  async find(context) {
    const opened = await openDoctorDatabase(context.config);
    if ("absent" in opened) return [skipped(opened.absent)];
    const { database, close } = opened;
    const limit = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    try {
      return await abortable(examine(database, context), limit);
    } catch (error) {
      return [problem(limit.aborted ? describeSilence(context) : await describeConnectError(error, database))];
    } finally {
      // It may wait for a server that doesn't respond.
      void close().catch(() => {});
    }
  },
};

const describeSilence = ({ config }: DoctorContext): string =>
  config.DATABASE_URL === undefined
    ? `The embedded Postgres did not respond within ${REQUEST_TIMEOUT_MS / 1_000} s; see postgres.log in DATA_DIR, and restart Parley.`
    : `The database did not respond within ${REQUEST_TIMEOUT_MS / 1_000} s; check host and port of DATABASE_URL, firewalls, and the load of the server.`;

/** @throws an error of the connection. */
async function examine(database: Database, context: DoctorContext): Promise<Finding[]> {
  const { log, warnings } = createWarningCollector();
  await prepareSession(database, log);
  const unsuitable = await collectUnsuitable([
    () => checkServer(database),
    () => checkWritable(database),
    () => checkMigratable(database),
  ]);
  const facts = await readDatabaseFacts(database);
  context.clockReadings.push(facts.clock);
  const { config } = context;
  const pooling = getPooling(database);
  const judged = judgeDatabase(facts, {
    connectionsMax: config.DATABASE_POOL_SIZE + EXTRA_CONNECTIONS_MAX,
    isRunning: (await context.ownServer) !== null,
    host: config.DATABASE_URL === undefined ? undefined : readDatabaseAddress(config.DATABASE_URL).host,
    isPooled: pooling !== "none",
  });
  const findings = [...unsuitable, ...warnings.map(warning), ...judged];
  if (unsuitable.length === 0) findings.push(...(await judgeMigrations(database, (await context.ownServer) !== null)));
  const through = pooling === "none" ? "" : `, through a pooler in ${pooling} mode`;
  if (!findings.some(({ status }) => status === "problem"))
    findings.unshift(ok(`PostgreSQL ${facts.version} responds in ${facts.latencyMs.toFixed(1)} ms${through}.`));
  return findings;
}

/** Runs the checks of a start. Each sentence is reported once, since some include others. */
async function collectUnsuitable(checks: (() => Promise<void>)[]): Promise<Finding[]> {
  const sentences = new Set<string>();
  for (const check of checks)
    try {
      await check();
    } catch (error) {
      const isKnown =
        error instanceof UnsuitableDatabaseError ||
        error instanceof DatabaseNotReadyError ||
        error instanceof MigrationError;
      const explained = isKnown ? error.message : explainDatabaseError(error);
      if (explained === null) throw error;
      sentences.add(explained);
    }
  return [...sentences].map(problem);
}

async function judgeMigrations(database: Database, isRunning: boolean): Promise<Finding[]> {
  const migrations = await listMigrations(database);
  const pending = migrations.filter(({ state }) => state === "pending").length;
  if (pending === 0) return [];
  if (pending === migrations.length) return [ok("The database is empty; the first start creates Parley's tables.")];
  const remedy = isRunning ? "restart Parley with this executable" : "start Parley, or run `parley migrate`";
  return [warning(`${formatQuantity(pending, "migration")} of this version must still be applied; ${remedy}.`)];
}
