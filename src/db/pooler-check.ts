import { createId } from "../lib/id.ts";
import { type Database, openProbePool, type Pooling, type Sql, setPooling } from "./client.ts";
import { UnsuitableDatabaseError } from "./suitability.ts";

/** If opening a second connection takes longer than this, the pooler has no free connections, and transaction pooling is assumed. */
const PROBE_TIMEOUT_MS = 3_000;
/** The timeout for a notification from one connection to another. */
const NOTIFY_TIMEOUT_MS = 500;

/**
 * Detects whether a pooler is between Parley and Postgres, and adapts all of the database's pools to it. This needs a free
 * connection.
 * @throws UnsuitableDatabaseError if a pooler is in statement mode. Also throws the driver's error if the database is unreachable.
 */
export async function checkPooler(database: Database): Promise<Pooling> {
  // Assumes transaction pooling during the check, because unnamed statements work with every pooler.
  setPooling(database, "transaction", false);
  const pooling = await detectPooling(database);
  setPooling(database, pooling, true);
  return pooling;
}

async function detectPooling(database: Database): Promise<Pooling> {
  const { pid, keyPid } = await fetchPids(database);
  // A pooler invents the process ID in the cancellation key. Postgres sends its real one.
  if (pid === keyPid) return "none";
  await checkTransactionsAllowed(database);
  const [first, second] = [openProbePool(database), openProbePool(database)];
  try {
    const isSessionPooling = await Promise.race([
      hasConnectionPerClient(first, second),
      Bun.sleep(PROBE_TIMEOUT_MS).then(() => false),
    ]);
    return isSessionPooling ? "session" : "transaction";
  } finally {
    for (const probe of [first, second]) void probe.end({ timeout: 0 });
  }
}

async function fetchPids(sql: Sql): Promise<{ pid: number; keyPid: number }> {
  const rows = await sql<{ pid: number }[]>`select pg_backend_pid() as pid`.simple();
  return { pid: rows[0]?.pid ?? 0, keyPid: rows.state.pid };
}

/** @throws UnsuitableDatabaseError if PgBouncer is in statement mode. */
async function checkTransactionsAllowed(database: Database): Promise<void> {
  try {
    await database.begin((sql) => sql`select 1`);
  } catch (error) {
    if (!(error instanceof Error) || !/statement pooling/i.test(error.message)) throw error;
    throw new UnsuitableDatabaseError(
      `The pooler in DATABASE_URL doesn't allow transactions (${error.message}); set \`pool_mode = transaction\` there.`,
    );
  }
}

/** Returns whether each client has its own connection to Postgres. Returns false if in doubt, which is always safe. */
async function hasConnectionPerClient(first: Database, second: Database): Promise<boolean> {
  const firstPid = (await fetchPids(first)).pid;
  const secondPid = (await fetchPids(second)).pid;
  // With transaction pooling, the second client usually receives the connection that the first client has just used.
  if (secondPid === firstPid || (await fetchPids(first)).pid !== firstPid) return false;
  return await receivesNotifications(first, second);
}

/**
 * Returns whether the first client receives the second client's notifications. Call this only if each client seems to have its own
 * connection. With transaction pooling, one of the pooler's connections would keep listening. The channel name is never reused.
 */
async function receivesNotifications(first: Database, second: Database): Promise<boolean> {
  const channel = `parley_probe_${createId().slice(-12)}`;
  const { promise, resolve } = Promise.withResolvers<boolean>();
  await first.listen(channel, () => resolve(true));
  await second.notify(channel, "");
  return await Promise.race([promise, Bun.sleep(NOTIFY_TIMEOUT_MS).then(() => false)]);
}
