import { createId } from "../lib/id.ts";
import { changePooling, type Database, openProbe, type Pooling, type Sql } from "./client.ts";
import { UnsuitableDatabaseError } from "./suitability.ts";

/** If opening a second connection takes longer than this, the pooler has none left, and transaction pooling is assumed. */
const PROBE_MS_MAX = 3_000;
/** Timeout for a notification from one connection to another. */
const NOTIFY_MS_MAX = 500;

/**
 * Detects the pooler between Parley and Postgres, and adapts all pools of the database to it. This needs a free connection,
 * but no setting.
 * @throws UnsuitableDatabaseError for a pooler in statement mode; the driver's error if the database is unreachable.
 */
export async function checkPooler(database: Database): Promise<Pooling> {
  // Assumed until the check is done, because unnamed statements work everywhere.
  changePooling(database, "transaction", false);
  const pooling = await findPooling(database);
  changePooling(database, pooling, true);
  return pooling;
}

async function findPooling(database: Database): Promise<Pooling> {
  const { pid, keyPid } = await readPids(database);
  // A pooler makes up the cancellation key, while Postgres's own contains its real process ID.
  if (pid === keyPid) return "none";
  await checkTransaction(database);
  const [first, second] = [openProbe(database), openProbe(database)];
  try {
    const isKept = await Promise.race([keepsConnections(first, second), Bun.sleep(PROBE_MS_MAX).then(() => false)]);
    return isKept ? "session" : "transaction";
  } finally {
    for (const probe of [first, second]) void probe.end({ timeout: 0 });
  }
}

async function readPids(sql: Sql): Promise<{ pid: number; keyPid: number }> {
  const rows = await sql<{ pid: number }[]>`select pg_backend_pid() as pid`.simple();
  return { pid: rows[0]?.pid ?? 0, keyPid: rows.state.pid };
}

/** @throws UnsuitableDatabaseError in PgBouncer's mode `statement`. */
async function checkTransaction(database: Database): Promise<void> {
  try {
    await database.begin((sql) => sql`select 1`);
  } catch (error) {
    if (!(error instanceof Error) || !/statement pooling/i.test(error.message)) throw error;
    throw new UnsuitableDatabaseError(
      `The pooler of DATABASE_URL doesn't allow transactions (${error.message}); set \`pool_mode = transaction\` there.`,
    );
  }
}

/** Whether each client has its own connection to Postgres. Returns false if in doubt, which works in both cases. */
async function keepsConnections(first: Database, second: Database): Promise<boolean> {
  const ownPid = (await readPids(first)).pid;
  const otherPid = (await readPids(second)).pid;
  // With transaction pooling, the second client usually gets the connection that the first one has just used.
  if (otherPid === ownPid || (await readPids(first)).pid !== ownPid) return false;
  return await canListen(first, second);
}

/**
 * Whether one client receives another's notifications. Call this only if each seems to have its own connection, because a
 * transaction pooler would keep the `listen` on one of its connections. The channel name is never reused.
 */
async function canListen(first: Database, second: Database): Promise<boolean> {
  const channel = `parley_probe_${createId().slice(-12)}`;
  const { promise, resolve } = Promise.withResolvers<boolean>();
  await first.listen(channel, () => resolve(true));
  await second.notify(channel, "");
  return await Promise.race([promise, Bun.sleep(NOTIFY_MS_MAX).then(() => false)]);
}
