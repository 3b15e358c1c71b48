import { createId } from "../../src/lib/id.ts";
import { startInstalledPostgres } from "../support/installed-postgres.ts";

/** With these settings, the data survives a Postgres crash, but not a machine crash. */
const settings = { fsync: "off", full_page_writes: "off" };
export const DATABASE_PASSWORD = "database-password-for-tests";

export type DatabaseServer = Awaited<ReturnType<typeof startDatabaseServer>>;

/** Starts a Postgres server for `DATABASE_URL`. As in production, it uses TCP and a role that is not a superuser. */
export async function startDatabaseServer() {
  const port = await findFreePort();
  const server = await startInstalledPostgres({ settings, port });
  await server.psql(`create role parley login password '${DATABASE_PASSWORD}'`);
  return {
    ...server,
    port,

    /** Creates an empty database, and returns its `DATABASE_URL`. */
    async createDatabase(): Promise<string> {
      const name = `site_${createId().replaceAll("-", "")}`;
      await server.psql(`create database ${name} owner parley`);
      return `postgres://parley:${DATABASE_PASSWORD}@127.0.0.1:${port}/${name}`;
    },
  };
}

/** Returns a TCP port that is currently free. */
export async function findFreePort(): Promise<number> {
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
  const { port } = server;
  await server.stop(true);
  if (!port) throw new Error("No free port found.");
  return port;
}
