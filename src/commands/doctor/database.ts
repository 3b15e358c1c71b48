import { parseDatabaseAddress } from "../../db/address.ts";
import { type Database, getPooling } from "../../db/client.ts";
import { describeConnectError, EXTRA_CONNECTIONS_MAX } from "../../db/connect.ts";
import { explainDatabaseError } from "../../db/explain.ts";
import { checkMigratable, listMigrations, MigrationError } from "../../db/migrate.ts";
import { prepareSession } from "../../db/session-check.ts";
import { checkServer, checkWritable, DatabaseNotReadyError, UnsuitableDatabaseError } from "../../db/suitability.ts";
import { abortable } from "../../lib/abortable.ts";
import { formatQuantity } from "../selftest/measurements.ts";
import { type DoctorCheck, type DoctorContext, REQUEST_TIMEOUT_MS } from "./check.ts";
import { createWarningCollector, openDoctorDatabase } from "./database-connection.ts";
import { readDatabaseFacts } from "./database-facts.ts";
import { checkDatabaseFacts } from "./database-findings.ts";
import { type Finding, ok, problem, skipped, warning } from "./finding.ts";

export const databaseCheck: DoctorCheck = {
  name: "database",
  async run(context) {
    const connection = await openDoctorDatabase(context.config);
    if ("unavailableReason" in connection) return [skipped(connection.unavailableReason)];
    const { database, close } = connection;
    const timeoutSignal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    try {
      return await abortable(checkDatabase(database, context), timeoutSignal);
    } catch (error) {
      return [problem(timeoutSignal.aborted ? describeTimeout(context) : await describeConnectError(error, database))];
    } finally {
      // Closing isn't awaited, because the server may not respond.
      void close().catch(() => {});
    }
  },
};

const describeTimeout = ({ config }: DoctorContext): string =>
  config.DATABASE_URL === undefined
    ? `The embedded Postgres did not respond within ${REQUEST_TIMEOUT_MS / 1_000} s; see postgres.log in DATA_DIR, and restart Parley.`
    : `The database did not respond within ${REQUEST_TIMEOUT_MS / 1_000} s; check the host and port in DATABASE_URL, firewalls, and the server's load.`;

/** @throws connection errors. */
async function checkDatabase(database: Database, context: DoctorContext): Promise<Finding[]> {
  const { log, warnings } = createWarningCollector();
  await prepareSession(database, log);
  const startupFindings = await collectStartupErrors([
    () => checkServer(database),
    () => checkWritable(database),
    () => checkMigratable(database),
  ]);
  const facts = await readDatabaseFacts(database);
  context.clockReadings.push(facts.clock);
  const { config } = context;
  const pooling = getPooling(database);
  const serverFindings = checkDatabaseFacts(facts, {
    connectionsMax: config.DATABASE_POOL_SIZE + EXTRA_CONNECTIONS_MAX,
    isRunning: (await context.localServer) !== null,
    host: config.DATABASE_URL === undefined ? undefined : parseDatabaseAddress(config.DATABASE_URL).host,
    isPooled: pooling !== "none",
  });
  const findings = [...startupFindings, ...warnings.map(warning), ...serverFindings];
  if (startupFindings.length === 0)
    findings.push(...(await checkMigrations(database, (await context.localServer) !== null)));
  const poolerNote = pooling === "none" ? "" : `, through a pooler in ${pooling} mode`;
  if (!findings.some(({ status }) => status === "problem"))
    findings.unshift(ok(`PostgreSQL ${facts.version} responds in ${facts.latencyMs.toFixed(1)} ms${poolerNote}.`));
  return findings;
}

/** Runs the startup checks. Several of them can fail with the same message, which is reported once. */
async function collectStartupErrors(checks: (() => Promise<void>)[]): Promise<Finding[]> {
  const messages = new Set<string>();
  for (const check of checks)
    try {
      await check();
    } catch (error) {
      const isKnown =
        error instanceof UnsuitableDatabaseError ||
        error instanceof DatabaseNotReadyError ||
        error instanceof MigrationError;
      const explanation = isKnown ? error.message : explainDatabaseError(error);
      if (explanation === null) throw error;
      messages.add(explanation);
    }
  return [...messages].map(problem);
}

async function checkMigrations(database: Database, isRunning: boolean): Promise<Finding[]> {
  const migrations = await listMigrations(database);
  const pendingCount = migrations.filter(({ state }) => state === "pending").length;
  if (pendingCount === 0) return [];
  if (pendingCount === migrations.length)
    return [ok("The database is empty; the first start creates Parley's tables.")];
  const remedy = isRunning ? "restart Parley with this executable" : "start Parley, or run `parley migrate`";
  return [warning(`${formatQuantity(pendingCount, "migration")} of this version must be applied; ${remedy}.`)];
}
