import { afterEach, beforeEach, expect, test } from "bun:test";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { createTestDatabase } from "../support/postgres.ts";

const POOL_SIZE = 5;
const IDLE_TIMEOUT_S = 0.4;
/** More than twice the timeout. */
const LATER_MS = 1_000;

let pool: Database;
let observer: Database;
let name: string;
beforeEach(async () => {
  const created = await createTestDatabase(1);
  observer = created.database;
  name = created.name;
  pool = openDatabase({ target: created.target, poolSize: POOL_SIZE, idleTimeoutS: IDLE_TIMEOUT_S });
});
afterEach(() => Promise.all([pool.end({ timeout: 1 }), observer.end({ timeout: 1 })]));

/** The pool's connections only. */
async function countConnections(): Promise<number> {
  const [row] = await observer<{ count: number }[]>`
    select count(*)::int as count from pg_stat_activity where datname = ${name} and pid <> pg_backend_pid()`;
  return row?.count ?? 0;
}

const findPid = async (sql: Pick<Database, "unsafe">): Promise<number> =>
  (await sql.unsafe<{ pid: number }[]>("select pg_backend_pid() as pid"))[0]?.pid ?? 0;

/** Uses all connections at once. */
const makePeak = () => Promise.all(Array.from({ length: POOL_SIZE }, () => pool`select pg_sleep(0.05)`));

test("connections opened at a peak are closed despite occasional queries, which keep one open", async () => {
  await makePeak();
  expect(await countConnections()).toBe(POOL_SIZE);
  const pid = await findPid(pool);
  const untilMs = performance.now() + LATER_MS;
  while (performance.now() < untilMs) {
    // Always the most recently used connection (patches/postgres/speed-warmest-connection.patch): otherwise none would
    // be idle.
    expect(await findPid(pool)).toBe(pid);
    await Bun.sleep(20);
  }
  expect(await countConnections()).toBe(1);
  await makePeak();
  expect(await countConnections()).toBe(POOL_SIZE);
});

test("a reserved connection stays open, however long it is idle", async () => {
  const reserved = await pool.reserve();
  const pid = await findPid(reserved);
  await Bun.sleep(LATER_MS);
  expect(await findPid(reserved)).toBe(pid);
  reserved.release();
});

test("the connection of a transaction does too", async () => {
  await pool.begin(async (sql) => {
    await sql`create temp table kept (one int) on commit drop`;
    await Bun.sleep(LATER_MS);
    expect(await sql`select * from kept`).toHaveLength(0);
  });
});
