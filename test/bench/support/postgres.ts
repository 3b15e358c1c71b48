import { chmodSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { addCleanup, createTemporaryFolder, findFreePort } from "./temporary.ts";

export type BenchPostgres = {
  pid: number;
  /** Creates an empty database, and returns its connection string. */
  createDatabase(name: string): Promise<string>;
  /** Returns a database's connection string, or undefined if the database doesn't exist. */
  findDatabase(name: string): Promise<string | undefined>;
  dropDatabase(name: string): Promise<void>;
  /** Renames a database, and returns its new connection string. */
  renameDatabase(name: string, newName: string): Promise<string>;
  /** Forces a checkpoint, so that earlier writes don't slow down the next measurement. */
  checkpoint(): Promise<void>;
  /** Returns the number of committed transactions in a database. */
  countCommits(name: string): Promise<number>;
};

const STATISTICS_DELAY_MS = 1_100;

/**
 * Starts a Postgres server of the oldest version that is installed on this machine. It has default settings, so each
 * commit is on disk before it is acknowledged.
 * @param persistentFolder A folder for data that persists between runs. By default, a temporary folder is used.
 */
export async function startPostgres(persistentFolder?: string): Promise<BenchPostgres> {
  const binFolder = findBinFolder();
  const folder = persistentFolder ?? createTemporaryFolder();
  if (persistentFolder) mkdirSync(persistentFolder, { recursive: true });
  const dataFolder = join(folder, "data");
  const port = findFreePort();
  // Postgres refuses to run as root.
  const postgresUserPrefix = process.getuid?.() === 0 ? ["runuser", "-u", "postgres", "--"] : [];
  if (postgresUserPrefix.length > 0) await runCommand(["chown", "postgres", folder]);
  else chmodSync(folder, 0o700);
  if (!existsSync(dataFolder))
    await runCommand([
      ...postgresUserPrefix,
      join(binFolder, "initdb"),
      "-D",
      dataFolder,
      "-A",
      "trust",
      "-U",
      "postgres",
      "-E",
      "UTF8",
    ]);
  const settings = { listen_addresses: "127.0.0.1", port: String(port), unix_socket_directories: folder };
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const pgCtl = [...postgresUserPrefix, join(binFolder, "pg_ctl"), "-D", dataFolder];
  addCleanup(() => runCommand([...pgCtl, "stop", "-m", persistentFolder ? "fast" : "immediate"]).catch(() => {}));
  await runCommand([...pgCtl, "start", "-w", "-l", join(dataFolder, "log"), "-o", flags.join(" ")]);
  const pid = Number((await Bun.file(join(dataFolder, "postmaster.pid")).text()).split("\n")[0]);
  const createUrl = (name: string) => `postgres://postgres@127.0.0.1:${port}/${name}`;
  const admin = postgres(createUrl("postgres"), { max: 1, onnotice: () => {} });
  addCleanup(() => admin.end({ timeout: 1 }));
  return {
    pid,
    async createDatabase(name) {
      await admin`create database ${admin(name)}`;
      return createUrl(name);
    },
    async findDatabase(name) {
      const rows = await admin`select 1 from pg_database where datname = ${name}`;
      return rows.length > 0 ? createUrl(name) : undefined;
    },
    async dropDatabase(name) {
      await admin`drop database if exists ${admin(name)} with (force)`;
    },
    async renameDatabase(name, newName) {
      await admin`alter database ${admin(name)} rename to ${admin(newName)}`;
      return createUrl(newName);
    },
    async checkpoint() {
      await admin`checkpoint`;
    },
    async countCommits(name) {
      // Postgres updates the statistics at most once a second.
      await Bun.sleep(STATISTICS_DELAY_MS);
      const [row] = await admin<{ commits: string }[]>`
        select xact_commit as commits from pg_stat_database where datname = ${name}`;
      return Number(row?.commits);
    },
  };
}

function findBinFolder(): string {
  const root = "/usr/lib/postgresql";
  const versions = existsSync(root) ? readdirSync(root).sort((a, b) => Number(a) - Number(b)) : [];
  const version = versions.find((candidate) => existsSync(join(root, candidate, "bin/initdb")));
  if (!version) throw new Error(`No Postgres found in ${root}. Run \`make test\` to install it.`);
  return join(root, version, "bin");
}

/** Runs a command without reading its output, because a daemon would keep the pipes open. */
async function runCommand(command: string[]): Promise<void> {
  const child = Bun.spawn(command, { stdio: ["ignore", "ignore", "ignore"] });
  if ((await child.exited) !== 0) throw new Error(`Command failed: ${command.join(" ")}`);
}
