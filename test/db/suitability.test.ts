import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import pino from "pino";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { waitForDatabase } from "../../src/db/connect.ts";
import { bundledSql, migrate } from "../../src/db/migrate.ts";
import { checkServer, UnsuitableDatabaseError } from "../../src/db/suitability.ts";
import { findFreePort } from "../acceptance/database-server.ts";
import { startInstalledPostgres } from "../support/installed-postgres.ts";
import { silentLog } from "../support/log.ts";

let port: number;
let server: Awaited<ReturnType<typeof startInstalledPostgres>>;
const openedDatabases: Database[] = [];

beforeAll(async () => {
  port = await findFreePort();
  server = await startInstalledPostgres({ port, settings: { fsync: "off" } });
  await server.psql("create role parley login password 'pw'");
});
afterAll(async () => {
  await Promise.all(openedDatabases.map((database) => database.end({ timeout: 1 })));
  await server.stop();
});

/** Connects with Parley's role over TCP. */
function openAsParley(name: string, query = ""): Database {
  const url = `postgres://parley:pw@127.0.0.1:${port}/${name}${query}`;
  const database = openDatabase({ target: { url }, poolSize: 2 });
  openedDatabases.push(database);
  return database;
}

/** Prepares the database as `serve` does. */
const prepareDatabase = (database: Database) =>
  waitForDatabase(database, silentLog, AbortSignal.timeout(10_000), () => migrate(database, silentLog));

const listRelations = async (database: Database) =>
  (await database<{ name: string }[]>`select relname as name from pg_class where relnamespace = 'public'::regnamespace`)
    .map(({ name }) => name)
    .sort();

describe("a database is rejected and left unchanged", () => {
  test.each<[string, string, string[], string[], RegExp]>([
    [
      "its encoding is LATIN1",
      "latin",
      ["create database latin owner parley encoding 'LATIN1' locale 'C' template template0"],
      [],
      /^The database "latin" has the encoding LATIN1, and Parley needs UTF8; create another with/,
    ],
    [
      "its encoding is SQL_ASCII",
      "ascii",
      ["create database ascii owner parley encoding 'SQL_ASCII' locale 'C' template template0"],
      [],
      /^The database "ascii" has the encoding SQL_ASCII/,
    ],
    [
      "it has another program's table",
      "foreign_table",
      ["create database foreign_table owner parley", "\\c foreign_table", "create table messages (id int)"],
      ["messages"],
      /^The schema "public" has a table "messages" that doesn't belong to Parley; use a separate database for Parley\.$/,
    ],
    [
      "it has another program's view",
      "foreign_view",
      ["create database foreign_view owner parley", "\\c foreign_view", "create view users as select 1 as id"],
      ["users"],
      /^The schema "public" has a table "users" that doesn't belong to Parley/,
    ],
    [
      "it has another program's `migrations` table",
      "foreign_migrations",
      [
        "create database foreign_migrations owner parley",
        "\\c foreign_migrations",
        "create table migrations (id int, migration text)",
      ],
      ["migrations"],
      /^The schema "public" has a table "migrations" that doesn't belong to Parley/,
    ],
    [
      "Parley's role can't create tables",
      "unprivileged",
      ["create database unprivileged"],
      [],
      /^The role "parley" has no permission to create tables in the schema "public"; run `grant create on schema public to parley`/,
    ],
  ])("if %s", async (_reason, name, statements, relations, message) => {
    await server.psql(...statements);
    const database = openAsParley(name);
    const error = await prepareDatabase(database).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UnsuitableDatabaseError);
    expect((error as Error).message).toMatch(message);
    expect(await listRelations(database)).toEqual(relations);
  });

  test("if its server is older than PostgreSQL 15", async () => {
    const queryVersion = async () => [{ version: 140_012, version_text: "14.12", encoding: "UTF8", name: "old" }];
    const error = await checkServer(queryVersion as unknown as Database).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UnsuitableDatabaseError);
    expect((error as Error).message).toBe("The database is PostgreSQL 14.12; Parley needs 15 or newer.");
  });
});

test("a database with other programs' tables is accepted if their names don't conflict", async () => {
  await server.psql("create database shared owner parley", "\\c shared", "create table invoices (id int)");
  const database = openAsParley("shared");
  await prepareDatabase(database);
  expect(await listRelations(database)).toContain("messages");
  expect(await migrate(database, silentLog, { sources: bundledSql })).toEqual([]);
});

describe("waitForDatabase", () => {
  test.each<[string, { name: string; query?: string; setupSql: string[]; remedySql: string[]; reason: RegExp }]>([
    [
      "a role without login permission",
      {
        name: "locked",
        setupSql: ["create database locked owner parley", "alter role parley nologin"],
        remedySql: ["alter role parley login"],
        reason: /^Postgres rejected the login \(role "parley" is not permitted to log in\); .*DATABASE_URL/,
      },
    ],
    [
      "a missing database",
      {
        name: "missing",
        setupSql: ["select 1"],
        remedySql: ["create database missing owner parley"],
        reason: /^The database does not exist \(database "missing" does not exist\); .*DATABASE_URL/,
      },
    ],
    [
      "a read-only database",
      {
        name: "frozen",
        setupSql: [
          "create database frozen owner parley",
          "alter database frozen set default_transaction_read_only = on",
        ],
        remedySql: ["alter database frozen reset default_transaction_read_only"],
        reason: /^The database "frozen" is read-only for the role "parley" because default_transaction_read_only is on/,
      },
    ],
    [
      "no free connection",
      {
        name: "full",
        setupSql: ['create database "full" owner parley connection limit 0'],
        remedySql: ['alter database "full" connection limit -1'],
        reason: /^The server in DATABASE_URL accepts no more connections \(too many connections for database "full"\)/,
      },
    ],
    [
      "a server without TLS",
      {
        name: "plain",
        query: "?sslmode=require",
        setupSql: ["create database plain owner parley"],
        remedySql: [],
        reason: /^The server in DATABASE_URL \(127\.0\.0\.1:\d+\) has no TLS, but sslmode=require requires it/,
      },
    ],
  ])(
    "logs the reason if there is %s, and keeps trying",
    async (_title, { name, query, setupSql, remedySql, reason }) => {
      await server.psql(...setupSql);
      const lines: string[] = [];
      const log = pino({ level: "warn" }, { write: (line: string) => void lines.push(line) });
      const controller = new AbortController();
      const database = openAsParley(name, query);
      const waitingForDatabase = waitForDatabase(database, log, controller.signal, () => migrate(database, log));
      while (lines.length < 2) await Bun.sleep(20);
      for (const line of lines) {
        const { level, reason: loggedReason } = JSON.parse(line) as { level: number; reason: string };
        expect(level).toBe(50);
        expect(loggedReason).toMatch(reason);
      }
      if (remedySql.length === 0) {
        controller.abort(new Error("stop requested"));
        expect(waitingForDatabase).rejects.toThrow("stop requested");
        return;
      }
      await server.psql(...remedySql);
      await waitingForDatabase;
      await database`create table written ()`;
      expect(lines.length).toBeLessThan(8);
    },
  );

  test("logs repeated failures without filling the log", async () => {
    await server.psql("create database flaky owner parley");
    const lines: string[] = [];
    const log = pino({ level: "warn" }, { write: (line: string) => void lines.push(line) });
    const database = openAsParley("flaky");
    const writeReadOnly = () => database.begin("read only", (sql) => sql`create table x ()`);
    const signal = AbortSignal.timeout(2_500);
    await waitForDatabase(database, log, signal, writeReadOnly).catch(() => {});
    expect(lines.length).toBeWithin(2, 6);
    expect(JSON.parse(lines[0] ?? "{}").reason).toMatch(
      /^The database is read-only \(.*default_transaction_read_only\.$/,
    );
  });
});

test("sslmode=prefer accepts a server without TLS, and `host` accepts a socket directory", async () => {
  await server.psql("create database reachable owner parley");
  const connectAndQuery = async (url: string) => {
    const database = openDatabase({ target: { url }, poolSize: 1 });
    openedDatabases.push(database);
    const [row] = await database<{ port: number | null; name: string }[]>`
      select inet_server_port() as port, current_database() as name`;
    return row;
  };
  const tcpUrl = `postgres://parley:pw@127.0.0.1:${port}/reachable`;
  expect(await connectAndQuery(`${tcpUrl}?sslmode=prefer`)).toEqual({ port, name: "reachable" });
  const socketResult = { port: null, name: "reachable" };
  expect(await connectAndQuery(`${tcpUrl}?host=${server.socketDirectory}`)).toEqual(socketResult);
  expect(await connectAndQuery(`postgres://parley@/reachable?host=${server.socketDirectory}&port=${port}`)).toEqual(
    socketResult,
  );
  expect(
    await connectAndQuery(`postgres://parley@${encodeURIComponent(server.socketDirectory)}:${port}/reachable`),
  ).toEqual(socketResult);
});
