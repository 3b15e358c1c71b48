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

/** The error that a promise rejects with. */
const rejection = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => Promise.reject(new Error("The promise did not reject.")),
    (error) => error,
  );

const codeOf = (error: unknown) => (error instanceof Error && "code" in error ? error.code : undefined);

/** A port that refuses connections, or cuts them at their first bytes. */
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

/** Each with the error codes that it causes. */
const outages: Record<string, [work: () => Promise<unknown>, codes: RegExp]> = {
  "a server that refuses connections": [
    async () => {
      const away = openAt((await openPort(false)).port);
      return rejection(away`select 1`).finally(() => away.end({ timeout: 0 }));
    },
    /^ECONNREFUSED$/,
  ],
  "a server that refuses reserved connections": [
    async () => {
      const away = openAt((await openPort(false)).port);
      return rejection(away.reserve()).finally(() => away.end({ timeout: 0 }));
    },
    /^ECONNREFUSED$/,
  ],
  "a server that refuses transactions": [
    async () => {
      const away = openAt((await openPort(false)).port);
      return rejection(withTransaction(away, (sql) => sql`select 1`)).finally(() => away.end({ timeout: 0 }));
    },
    /^ECONNREFUSED$/,
  ],
  "a server that cuts connections": [
    async () => {
      const { port, server } = await openPort(true);
      const away = openAt(port);
      return rejection(away`select 1`).finally(async () => {
        await away.end({ timeout: 0 });
        server.close();
      });
    },
    /^(ECONNRESET|CONNECTION_CLOSED)$/,
  ],
  "a missing socket": [
    async () => {
      const away = openDatabase({ target: { socketDirectory: "/nonexistent", user: "x" }, poolSize: 1 });
      return rejection(away`select 1`).finally(() => away.end({ timeout: 0 }));
    },
    /^ENOENT$/,
  ],
  "a connection terminated during a statement": [
    async () => {
      const [row] = await database<{ name: string }[]>`select current_database() as name`;
      const failing = rejection(database`select pg_sleep(10)`.execute());
      await Bun.sleep(100);
      await killer`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${row?.name ?? ""}`;
      return failing;
    },
    /^(57P01|CONNECTION_CLOSED|ECONNRESET)$/,
  ],
  "a closed pool": [
    async () => {
      const away = openAt(1);
      await away.end();
      return rejection(away`select 1`);
    },
    /^CONNECTION_ENDED$/,
  ],
};

for (const [name, [work, codes]] of Object.entries(outages))
  test(`the database is unavailable: ${name}`, async () => {
    const error = await work();
    expect(codeOf(error)).toMatch(codes);
    expect(isDatabaseUnavailable(error)).toBe(true);
    expect(findTemporaryProblem(error)?.code).toBe("unavailable");
  });

/** Errors of files and peers, with codes that a lost database also has. */
const foreign: Record<string, [work: () => Promise<unknown>, code: string]> = {
  "a missing file": [() => rejection(readFile("/nonexistent")), "ENOENT"],
  "a missing file within a transaction": [
    () =>
      rejection(
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
  "another server that refuses connections, within a started transaction": [
    async () => {
      const { port } = await openPort(false);
      const work = () => new Promise((_, reject) => connect(port, "127.0.0.1").on("error", reject));
      return rejection(withTransaction(database, work));
    },
    "ECONNREFUSED",
  ],
};

for (const [name, [work, code]] of Object.entries(foreign))
  test(`the database is available: ${name}`, async () => {
    const error = await work();
    expect(codeOf(error)).toBe(code);
    expect(isDatabaseUnavailable(error)).toBe(false);
    expect(findTemporaryProblem(error)).toBeUndefined();
  });

test("a statement rejected by a full pool is overloaded, with Retry-After", () => {
  const error = Object.assign(new Error("Too many statements wait for a connection"), { code: "TOO_MANY_WAITING" });
  const problem = findTemporaryProblem(error);
  expect(problem?.code).toBe("overloaded");
  expect(problem?.retryAfterMs).toBeGreaterThan(0);
});
