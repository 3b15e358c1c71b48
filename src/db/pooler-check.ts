import { createId } from "../lib/id.ts";
import { changePooling, type Database, openProbe, type Pooling, type Sql } from "./client.ts";
import { UnsuitableDatabaseError } from "./suitability.ts";

/** If the second connection has to wait for longer, the pooler has none left, and it is taken for one of transactions. */
const PROBE_MS_MAX = 3_000;
/** How long a notification may take from one connection to another. */
const NOTIFY_MS_MAX = 500;

/**
 * Finds out what stands between Parley and Postgres, and has all pools of the database work with it. No setting is needed.
 * It needs a connection that can be opened.
 * @throws UnsuitableDatabaseError behind a pooler that gives each statement another connection; the driver's error if the
 * database cannot be asked.
 */
export async function checkPooler(database: Database): Promise<Pooling> {
  // Until it is known: statements without names work everywhere.
  changePooling(database, "transaction", false);
  const pooling = await findPooling(database);
  changePooling(database, pooling, true);
  return pooling;
}

async function findPooling(database: Database): Promise<Pooling> {
  const { pid, keyPid } = await readPids(database);
  // A pooler makes up the key by which its client cancels statements; Postgres names the process in it.
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
      `The pooler of DATABASE_URL allows no transactions (${error.message}); set \`pool_mode = transaction\` there.`,
    );
  }
}

/** Whether each client has a connection to Postgres of its own. In doubt it has not, which is right in both cases. */
async function keepsConnections(first: Database, second: Database): Promise<boolean> {
  const ownPid = (await readPids(first)).pid;
  const otherPid = (await readPids(second)).pid;
  // The usual case of a pooler of transactions: the second gets the connection that the first has just used.
  if (otherPid === ownPid || (await readPids(first)).pid !== ownPid) return false;
  return await canListen(first, second);
}

/**
 * Whether one client receives the notification of another one. Only now, when it looks as if each had its own connection: a
 * pooler of transactions would keep the `listen` on one of its connections, where nobody uses the name again.
 */
async function canListen(first: Database, second: Database): Promise<boolean> {
  const channel = `parley_probe_${createId().slice(-12)}`;
  const { promise, resolve } = Promise.withResolvers<boolean>();
  await first.listen(channel, () => resolve(true));
  await second.notify(channel, "");
  return await Promise.race([promise, Bun.sleep(NOTIFY_MS_MAX).then(() => false)]);
}
