import { afterEach, beforeEach, expect, test } from "bun:test";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { createTestDatabase } from "../support/postgres.ts";

const POOL_SIZE = 5;
const IDLE_TIMEOUT_S = 0.4;
/** More than twice the timeout. */
const IDLE_MS = 1_000;

let pool: Database;
let observer: Database;
let databaseName: string;
beforeEach(async () => {
  const testDatabase = await createTestDatabase(1);
  observer = testDatabase.database;
  databaseName = testDatabase.name;
  pool = openDatabase({ target: testDatabase.target, poolSize: POOL_SIZE, idleTimeoutS: IDLE_TIMEOUT_S });
});
afterEach(() => Promise.all([pool.end({ timeout: 1 }), observer.end({ timeout: 1 })]));

/** Counts the pool's connections. */
async function countConnections(): Promise<number> {
  const [row] = await observer<{ count: number }[]>`
    select count(*)::int as count from pg_stat_activity where datname = ${databaseName} and pid <> pg_backend_pid()`;
  return row?.count ?? 0;
}

const getBackendPid = async (sql: Pick<Database, "unsafe">): Promise<number> =>
  (await sql.unsafe<{ pid: number }[]>("select pg_backend_pid() as pid"))[0]?.pid ?? 0;

/** Uses all connections at the same time. */
const useAllConnections = () => Promise.all(Array.from({ length: POOL_SIZE }, () => pool`select pg_sleep(0.05)`));

test("after a peak, all connections are closed except the one that occasional queries use", async () => {
  await useAllConnections();
  expect(await countConnections()).toBe(POOL_SIZE);
  const pid = await getBackendPid(pool);
  const endMs = performance.now() + IDLE_MS;
  while (performance.now() < endMs) {
    // The pool uses the most recently used connection (patches/postgres/speed-warmest-connection.patch), so the other
    // connections become idle.
    expect(await getBackendPid(pool)).toBe(pid);
    await Bun.sleep(20);
  }
  expect(await countConnections()).toBe(1);
  await useAllConnections();
  expect(await countConnections()).toBe(POOL_SIZE);
});

test("an idle reserved connection stays open", async () => {
  const reservedConnection = await pool.reserve();
  const pid = await getBackendPid(reservedConnection);
  await Bun.sleep(IDLE_MS);
  expect(await getBackendPid(reservedConnection)).toBe(pid);
  reservedConnection.release();
});

test("the connection of an idle transaction stays open", async () => {
  await pool.begin(async (sql) => {
    await sql`create temp table kept (one int) on commit drop`;
    await Bun.sleep(IDLE_MS);
    expect(await sql`select * from kept`).toHaveLength(0);
  });
});
