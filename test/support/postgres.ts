import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { SUPERUSER } from "../../src/db/embedded/roles.ts";
import { startEmbeddedPostgres } from "../../src/db/embedded.ts";
import { migrate } from "../../src/db/migrate.ts";
import { createId } from "../../src/lib/id.ts";
import { startInstalledPostgres } from "./installed-postgres.ts";
import { silentLog } from "./log.ts";
import { stopPostgresOnExit } from "./stop-postgres-on-exit.ts";

type Server = { socketDirectory: string; user: string };

const TEMPLATE = "parley_template";
const CONNECTIONS_MAX = 300;
/** Fast settings that can lose data in a crash. The tests' data doesn't have to survive one. */
const nonDurableSettings = { fsync: "off", synchronous_commit: "off", full_page_writes: "off" };
let sharedServer: Promise<Server> | undefined;

/**
 * Creates a migrated, empty database on a Postgres server that all test files in this process share. By default
 * (`TEST_POSTGRES=server`), it is the Postgres that is installed on this machine. With `TEST_POSTGRES=embedded`, it is
 * Parley's embedded Postgres.
 */
export async function createTestDatabase(
  poolSize = 10,
): Promise<{ database: Database; name: string; target: { socketDirectory: string; user: string; database: string } }> {
  sharedServer ??= startServer();
  const server = await sharedServer;
  const name = `test_${createId().replaceAll("-", "")}`;
  const admin = openDatabase({ target: { ...server, database: "postgres" }, poolSize: 1 });
  await admin.unsafe(`create database ${name} template ${TEMPLATE}`);
  await admin.end();
  const target = { socketDirectory: server.socketDirectory, user: server.user, database: name };
  return { database: openDatabase({ target, poolSize }), name, target };
}

/** Makes the next `createTestDatabase` call start a new server. Use it in tests that measure the whole server. */
export function useFreshServer(): void {
  sharedServer = undefined;
}

async function startServer(): Promise<Server> {
  const choice = process.env.TEST_POSTGRES ?? "server";
  if (choice !== "embedded" && choice !== "server")
    throw new Error(`TEST_POSTGRES must be embedded or server, not ${choice}.`);
  const server =
    choice === "embedded"
      ? await startEmbedded()
      : await startInstalledPostgres({
          settings: { ...nonDurableSettings, max_connections: String(CONNECTIONS_MAX) },
          isProcessWide: true,
        });
  const admin = openDatabase({ target: { ...server, database: "postgres" }, poolSize: 1 });
  await admin.unsafe(`create database ${TEMPLATE}`);
  await admin.end();
  const template = openDatabase({ target: { ...server, database: TEMPLATE }, poolSize: 1 });
  await migrate(template, silentLog);
  await template.end();
  return server;
}

async function startEmbedded(): Promise<Server> {
  const dataDir = mkdtempSync(join(tmpdir(), "parley-test-"));
  stopPostgresOnExit({ dataDirectory: join(dataDir, "postgres"), folder: dataDir });
  const { socketDirectory } = await startEmbeddedPostgres({ dataDir, poolSize: CONNECTIONS_MAX, log: silentLog });
  // Parley's own role isn't allowed to create databases.
  const server = { socketDirectory, user: SUPERUSER };
  const admin = openDatabase({ target: { ...server, database: "postgres" }, poolSize: 1 });
  for (const [name, value] of Object.entries(nonDurableSettings))
    await admin.unsafe(`alter system set ${name} = ${value}`);
  await admin`select pg_reload_conf()`;
  await admin.end();
  return server;
}
