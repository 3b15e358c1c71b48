import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { connect, createServer, type Server as NetServer } from "node:net";
import { type Database, isDatabaseUnavailable, openDatabase, withTransaction } from "../../src/db/client.ts";
import { findTemporaryProblem } from "../../src/db/errors.ts";
import { createTestDatabase } from "../support/postgres.ts";

let database: Database;
let killer: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase(2));
  killer = (await createTestDatabase(1)).database;
});
afterAll(() => Promise.all([database.end({ timeout: 1 }), killer.end({ timeout: 1 })]));

/** What a promise is rejected with. */
const fail = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => Promise.reject(new Error("It did not fail.")),
    (error) => error,
  );

const codeOf = (error: unknown) => (error instanceof Error && "code" in error ? error.code : undefined);

/** A port on which nobody listens, or whose connections are cut at their first bytes. */
async function openPort(isCut: boolean): Promise<{ port: number; server: NetServer }> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.resetAndDestroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  if (!isCut) await new Promise((resolve) => server.close(resolve));
  return { port, server };
}

const openAt = (port: number) => openDatabase({ target: { url: `postgres://x@127.0.0.1:${port}/x` }, poolSize: 1 });

/** Each with the codes that are seen here. */
const outages: Record<string, [work: () => Promise<unknown>, codes: RegExp]> = {
  "a server that refuses connections": [
    async () => {
      const away = openAt((await openPort(false)).port);
      return fail(away`select 1`).finally(() => away.end({ timeout: 0 }));
    },
    /^ECONNREFUSED$/,
  ],
  "the same for a connection that is reserved": [
    async () => {
      const away = openAt((await openPort(false)).port);
      return fail(away.reserve()).finally(() => away.end({ timeout: 0 }));
    },
    /^ECONNREFUSED$/,
  ],
  "the same for a transaction": [
    async () => {
      const away = openAt((await openPort(false)).port);
      return fail(withTransaction(away, (sql) => sql`select 1`)).finally(() => away.end({ timeout: 0 }));
    },
    /^ECONNREFUSED$/,
  ],
  "a server that cuts connections": [
    async () => {
      const { port, server } = await openPort(true);
      const away = openAt(port);
      return fail(away`select 1`).finally(async () => {
        await away.end({ timeout: 0 });
        server.close();
      });
    },
    /^(ECONNRESET|CONNECTION_CLOSED)$/,
  ],
  "a socket that is not there": [
    async () => {
      const away = openDatabase({ target: { socketDirectory: "/nonexistent", user: "x" }, poolSize: 1 });
      return fail(away`select 1`).finally(() => away.end({ timeout: 0 }));
    },
    /^ENOENT$/,
  ],
  "a connection that was ended in the middle of a statement": [
    async () => {
      const [row] = await database<{ name: string }[]>`select current_database() as name`;
      const failing = fail(database`select pg_sleep(10)`.execute());
      await Bun.sleep(100);
      await killer`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${row?.name ?? ""}`;
      return failing;
    },
    /^(57P01|CONNECTION_CLOSED|ECONNRESET)$/,
  ],
  "a pool that was closed": [
    async () => {
      const away = openAt(1);
      await away.end();
      return fail(away`select 1`);
    },
    /^CONNECTION_ENDED$/,
  ],
};

for (const [name, [work, codes]] of Object.entries(outages))
  test(`the database is away: ${name}`, async () => {
    const error = await work();
    expect(codeOf(error)).toMatch(codes);
    expect(isDatabaseUnavailable(error)).toBe(true);
    expect(findTemporaryProblem(error)?.code).toBe("unavailable");
  });

/** Errors of files and peers, each with the code that a lost database has, too. */
const foreign: Record<string, [work: () => Promise<unknown>, code: string]> = {
  "a file that is not there": [() => fail(readFile("/nonexistent")), "ENOENT"],
  "the same in a transaction": [
    () =>
      fail(
        withTransaction(database, async (sql) => {
          await sql`select 1`;
          await readFile("/nonexistent");
        }),
      ),
    "ENOENT",
  ],
  "another server that refuses connections": [
    async () => {
      const { port } = await openPort(false);
      return new Promise((resolve) => connect(port, "127.0.0.1").on("error", resolve));
    },
    "ECONNREFUSED",
  ],
  "the same in a transaction that has begun": [
    async () => {
      const { port } = await openPort(false);
      const work = () => new Promise((_, reject) => connect(port, "127.0.0.1").on("error", reject));
      return fail(withTransaction(database, work));
    },
    "ECONNREFUSED",
  ],
};

for (const [name, [work, code]] of Object.entries(foreign))
  test(`the database is not away: ${name}`, async () => {
    const error = await work();
    expect(codeOf(error)).toBe(code);
    expect(isDatabaseUnavailable(error)).toBe(false);
    expect(findTemporaryProblem(error)).toBeUndefined();
  });

test("a statement that a full pool refuses is overloaded, and told to come back", () => {
  const error = Object.assign(new Error("Too many statements wait for a connection"), { code: "TOO_MANY_WAITING" });
  const problem = findTemporaryProblem(error);
  expect(problem?.code).toBe("overloaded");
  expect(problem?.retryAfterMs).toBeGreaterThan(0);
});
