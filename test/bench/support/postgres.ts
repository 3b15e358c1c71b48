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
 * Starts a new Postgres with the oldest version installed on this machine. It has default settings, so each commit is on
 * disk before it is acknowledged.
 * @param keptFolder The folder for the data, which is kept. If absent, a temporary folder is used.
 */
export async function startPostgres(keptFolder?: string): Promise<BenchPostgres> {
  const bin = findBinaries();
  const folder = keptFolder ?? createTemporaryFolder();
  if (keptFolder) mkdirSync(keptFolder, { recursive: true });
  const data = join(folder, "data");
  const port = findFreePort();
  // Postgres refuses to run as root.
  const runAsPostgres = process.getuid?.() === 0 ? ["runuser", "-u", "postgres", "--"] : [];
  if (runAsPostgres.length > 0) await run(["chown", "postgres", folder]);
  else chmodSync(folder, 0o700);
  if (!existsSync(data))
    await run([...runAsPostgres, join(bin, "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8"]);
  const settings = { listen_addresses: "127.0.0.1", port: String(port), unix_socket_directories: folder };
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const pgCtl = [...runAsPostgres, join(bin, "pg_ctl"), "-D", data];
  addCleanup(() => run([...pgCtl, "stop", "-m", keptFolder ? "fast" : "immediate"]).catch(() => {}));
  await run([...pgCtl, "start", "-w", "-l", join(data, "log"), "-o", flags.join(" ")]);
  const pid = Number((await Bun.file(join(data, "postmaster.pid")).text()).split("\n")[0]);
  const url = (name: string) => `postgres://postgres@127.0.0.1:${port}/${name}`;
  const admin = postgres(url("postgres"), { max: 1, onnotice: () => {} });
  addCleanup(() => admin.end({ timeout: 1 }));
  return {
    pid,
    async createDatabase(name) {
      await admin`create database ${admin(name)}`;
      return url(name);
    },
    async findDatabase(name) {
      const rows = await admin`select 1 from pg_database where datname = ${name}`;
      return rows.length > 0 ? url(name) : undefined;
    },
    async dropDatabase(name) {
      await admin`drop database if exists ${admin(name)} with (force)`;
    },
    async renameDatabase(name, newName) {
      await admin`alter database ${admin(name)} rename to ${admin(newName)}`;
      return url(newName);
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

function findBinaries(): string {
  const root = "/usr/lib/postgresql";
  const versions = existsSync(root) ? readdirSync(root).sort((a, b) => Number(a) - Number(b)) : [];
  const version = versions.find((candidate) => existsSync(join(root, candidate, "bin/initdb")));
  if (!version) throw new Error(`No Postgres below ${root}; \`make test\` installs it.`);
  return join(root, version, "bin");
}

/** Runs a command without reading its output, because a daemon would keep the pipes open. */
async function run(command: string[]): Promise<void> {
  const child = Bun.spawn(command, { stdio: ["ignore", "ignore", "ignore"] });
  if ((await child.exited) !== 0) throw new Error(`Command failed: ${command.join(" ")}`);
}
