import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { SUPERUSER } from "../../src/db/embedded/roles.ts";
import { startEmbeddedPostgres } from "../../src/db/embedded.ts";
import { migrate } from "../../src/db/migrate.ts";
import { createId } from "../../src/lib/id.ts";
import { endWithProcess } from "./end-with-process.ts";
import { startInstalledPostgres } from "./installed-postgres.ts";
import { silentLog } from "./log.ts";

type Server = { socketDirectory: string; user: string };

const TEMPLATE = "parley_template";
const CONNECTIONS_MAX = 300;
/** The server is never killed, and none of its data outlives the test run, so durability is off. */
const fastSettings = { fsync: "off", synchronous_commit: "off", full_page_writes: "off" };
let running: Promise<Server> | undefined;

/**
 * A migrated, empty database on a real Postgres that only this process uses, for all of its test files.
 * `TEST_POSTGRES=embedded` uses Parley's embedded one, `server` (the default) the machine's.
 */
export async function createTestDatabase(
  poolSize = 10,
): Promise<{ database: Database; name: string; target: { socketDirectory: string; user: string; database: string } }> {
  running ??= startServer();
  const server = await running;
  const name = `test_${createId().replaceAll("-", "")}`;
  const admin = openDatabase({ target: { ...server, database: "postgres" }, poolSize: 1 });
  await admin.unsafe(`create database ${name} template ${TEMPLATE}`);
  await admin.end();
  const target = { socketDirectory: server.socketDirectory, user: server.user, database: name };
  return { database: openDatabase({ target, poolSize }), name, target };
}

/** Creates the next databases on a fresh server: for a test that measures the whole server. */
export function takeFreshServer(): void {
  running = undefined;
}

async function startServer(): Promise<Server> {
  const choice = process.env.TEST_POSTGRES ?? "server";
  if (choice !== "embedded" && choice !== "server")
    throw new Error(`TEST_POSTGRES is embedded or server, not ${choice}.`);
  const server =
    choice === "embedded"
      ? await startCarried()
      : await startInstalledPostgres({
          settings: { ...fastSettings, max_connections: String(CONNECTIONS_MAX) },
          isKept: true,
        });
  const admin = openDatabase({ target: { ...server, database: "postgres" }, poolSize: 1 });
  await admin.unsafe(`create database ${TEMPLATE}`);
  await admin.end();
  const template = openDatabase({ target: { ...server, database: TEMPLATE }, poolSize: 1 });
  await migrate(template, silentLog);
  await template.end();
  return server;
}

async function startCarried(): Promise<Server> {
  const dataDir = mkdtempSync(join(tmpdir(), "parley-test-"));
  endWithProcess({ cluster: join(dataDir, "postgres"), folder: dataDir });
  const { socketDirectory } = await startEmbeddedPostgres({ dataDir, poolSize: CONNECTIONS_MAX, log: silentLog });
  // Tests create databases, which Parley's role may not.
  const server = { socketDirectory, user: SUPERUSER };
  const admin = openDatabase({ target: { ...server, database: "postgres" }, poolSize: 1 });
  for (const [name, value] of Object.entries(fastSettings)) await admin.unsafe(`alter system set ${name} = ${value}`);
  await admin`select pg_reload_conf()`;
  await admin.end();
  return server;
}
