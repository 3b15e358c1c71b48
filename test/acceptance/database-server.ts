import { createId } from "../../src/lib/id.ts";
import { startInstalledPostgres } from "../support/installed-postgres.ts";

/** The system need not survive, the server's own crash must. */
const settings = { fsync: "off", full_page_writes: "off" };
export const DATABASE_PASSWORD = "database-password-of-the-tests";

export type DatabaseServer = Awaited<ReturnType<typeof startDatabaseServer>>;

/** A Postgres server behind `DATABASE_URL`, as operators run one: over TCP, with a role that is no superuser. */
export async function startDatabaseServer() {
  const port = await findFreePort();
  const server = await startInstalledPostgres({ settings, port });
  await server.psql(`create role parley login password '${DATABASE_PASSWORD}'`);
  return {
    ...server,
    port,

    /** A new, empty database. @returns its `DATABASE_URL`. */
    async createDatabase(): Promise<string> {
      const name = `site_${createId().replaceAll("-", "")}`;
      await server.psql(`create database ${name} owner parley`);
      return `postgres://parley:${DATABASE_PASSWORD}@127.0.0.1:${port}/${name}`;
    },
  };
}

export async function findFreePort(): Promise<number> {
  const probe = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
  const { port } = probe;
  await probe.stop(true);
  if (!port) throw new Error("There is no free port.");
  return port;
}
