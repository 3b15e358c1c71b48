import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { connect, createServer, type Server as NetServer } from "node:net";
import { type Database, isDatabaseUnavailable, openDatabase, withTransaction } from "../../src/db/client.ts";
import { findTemporaryProblem } from "../../src/db/errors.ts";
import { createTestDatabase } from "../support/postgres.ts";

let database: Database;
let adminDatabase: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase(2));
  adminDatabase = (await createTestDatabase(1)).database;
});
afterAll(() => Promise.all([database.end({ timeout: 1 }), adminDatabase.end({ timeout: 1 })]));

/** Returns the error with which a promise rejects. */
const getRejection = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => Promise.reject(new Error("The promise did not reject.")),
    (error) => error,
  );

const getCode = (error: unknown) => (error instanceof Error && "code" in error ? error.code : undefined);

/** Returns a port that either resets connections after their first bytes or refuses connections. */
async function openFailingPort(shouldReset: boolean): Promise<{ port: number; server: NetServer }> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.resetAndDestroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  if (!shouldReset) await new Promise((resolve) => server.close(resolve));
  return { port, server };
}

const openDatabaseAt = (port: number) =>
  openDatabase({ target: { url: `postgres://x@127.0.0.1:${port}/x` }, poolSize: 1 });

/** Outages, each with the error codes that it can cause. */
const outages: Record<string, [work: () => Promise<unknown>, codes: RegExp]> = {
  "a refused connection": [
    async () => {
      const unavailableDatabase = openDatabaseAt((await openFailingPort(false)).port);
      return getRejection(unavailableDatabase`select 1`).finally(() => unavailableDatabase.end({ timeout: 0 }));
    },
    /^ECONNREFUSED$/,
  ],
  "a refused reserved connection": [
    async () => {
      const unavailableDatabase = openDatabaseAt((await openFailingPort(false)).port);
      return getRejection(unavailableDatabase.reserve()).finally(() => unavailableDatabase.end({ timeout: 0 }));
    },
    /^ECONNREFUSED$/,
  ],
  "a refused connection for a transaction": [
    async () => {
      const unavailableDatabase = openDatabaseAt((await openFailingPort(false)).port);
      return getRejection(withTransaction(unavailableDatabase, (sql) => sql`select 1`)).finally(() =>
        unavailableDatabase.end({ timeout: 0 }),
      );
    },
    /^ECONNREFUSED$/,
  ],
  "a reset connection": [
    async () => {
      const { port, server } = await openFailingPort(true);
      const unavailableDatabase = openDatabaseAt(port);
      return getRejection(unavailableDatabase`select 1`).finally(async () => {
        await unavailableDatabase.end({ timeout: 0 });
        server.close();
      });
    },
    /^(ECONNRESET|CONNECTION_CLOSED)$/,
  ],
  "a missing socket": [
    async () => {
      const unavailableDatabase = openDatabase({ target: { socketDirectory: "/nonexistent", user: "x" }, poolSize: 1 });
      return getRejection(unavailableDatabase`select 1`).finally(() => unavailableDatabase.end({ timeout: 0 }));
    },
    /^ENOENT$/,
  ],
  "a connection terminated during a statement": [
    async () => {
      const [row] = await database<{ name: string }[]>`select current_database() as name`;
      const failingQuery = getRejection(database`select pg_sleep(10)`.execute());
      await Bun.sleep(100);
      await adminDatabase`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${row?.name ?? ""}`;
      return failingQuery;
    },
    /^(57P01|CONNECTION_CLOSED|ECONNRESET)$/,
  ],
  "a closed pool": [
    async () => {
      const unavailableDatabase = openDatabaseAt(1);
      await unavailableDatabase.end();
      return getRejection(unavailableDatabase`select 1`);
    },
    /^CONNECTION_ENDED$/,
  ],
};

for (const [name, [work, codes]] of Object.entries(outages))
  test(`an error from ${name} means that the database is unavailable`, async () => {
    const error = await work();
    expect(getCode(error)).toMatch(codes);
    expect(isDatabaseUnavailable(error)).toBe(true);
    expect(findTemporaryProblem(error)?.code).toBe("unavailable");
  });

/** Errors that have the code of a database outage but come from elsewhere. */
const unrelatedErrors: Record<string, [work: () => Promise<unknown>, code: string]> = {
  "a missing file": [() => getRejection(readFile("/nonexistent")), "ENOENT"],
  "a missing file within a transaction": [
    () =>
      getRejection(
        withTransaction(database, async (sql) => {
          await sql`select 1`;
          await readFile("/nonexistent");
        }),
      ),
    "ENOENT",
  ],
  "a refused connection to a different server": [
    async () => {
      const { port } = await openFailingPort(false);
      return new Promise((resolve) => connect(port, "127.0.0.1").on("error", resolve));
    },
    "ECONNREFUSED",
  ],
  "a refused connection to a different server, within a started transaction": [
    async () => {
      const { port } = await openFailingPort(false);
      const work = () => new Promise((_, reject) => connect(port, "127.0.0.1").on("error", reject));
      return getRejection(withTransaction(database, work));
    },
    "ECONNREFUSED",
  ],
};

for (const [name, [work, code]] of Object.entries(unrelatedErrors))
  test(`an error from ${name} doesn't mean that the database is unavailable`, async () => {
    const error = await work();
    expect(getCode(error)).toBe(code);
    expect(isDatabaseUnavailable(error)).toBe(false);
    expect(findTemporaryProblem(error)).toBeUndefined();
  });

test("a statement that is rejected because too many statements wait is reported as overloaded, with Retry-After", () => {
  const error = Object.assign(new Error("Too many statements wait for a connection"), { code: "TOO_MANY_WAITING" });
  const problem = findTemporaryProblem(error);
  expect(problem?.code).toBe("overloaded");
  expect(problem?.retryAfterMs).toBeGreaterThan(0);
});
