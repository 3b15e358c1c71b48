import { chmodSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { createTemporaryFolder, findFreePort, onEnd } from "./temporary.ts";

export type BenchPostgres = {
  pid: number;
  /** Creates an empty database. @returns its connection string. */
  createDatabase(name: string): Promise<string>;
  /** The connection string of a database in a kept folder; undefined if there is none with this name. */
  findDatabase(name: string): Promise<string | undefined>;
  dropDatabase(name: string): Promise<void>;
  /** @returns the connection string with the new name. */
  renameDatabase(name: string, newName: string): Promise<string>;
  /** Forces a checkpoint, so that one side's writes are not charged to the other. */
  checkpoint(): Promise<void>;
  /** The number of transactions committed in a database so far. */
  countCommits(name: string): Promise<number>;
};

const STATISTICS_DELAY_MS = 1_100;

/**
 * A private Postgres of the machine's oldest installed version, with default settings: fsync on, so a commit is on disk
 * before it is acknowledged. Only address, port and folder are set.
 * @param keptFolder is kept at the end, with its databases; absent: nothing is kept.
 */
export async function startPostgres(keptFolder?: string): Promise<BenchPostgres> {
  const bin = findBinaries();
  const folder = keptFolder ?? createTemporaryFolder();
  if (keptFolder) mkdirSync(keptFolder, { recursive: true });
  const data = join(folder, "data");
  const port = findFreePort();
  // Postgres refuses to run as root.
  const asPostgres = process.getuid?.() === 0 ? ["runuser", "-u", "postgres", "--"] : [];
  if (asPostgres.length > 0) await run(["chown", "postgres", folder]);
  else chmodSync(folder, 0o700);
  if (!existsSync(data))
    await run([...asPostgres, join(bin, "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8"]);
  const settings = { listen_addresses: "127.0.0.1", port: String(port), unix_socket_directories: folder };
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const control = [...asPostgres, join(bin, "pg_ctl"), "-D", data];
  onEnd(() => run([...control, "stop", "-m", keptFolder ? "fast" : "immediate"]).catch(() => {}));
  await run([...control, "start", "-w", "-l", join(data, "log"), "-o", flags.join(" ")]);
  const pid = Number((await Bun.file(join(data, "postmaster.pid")).text()).split("\n")[0]);
  const url = (name: string) => `postgres://postgres@127.0.0.1:${port}/${name}`;
  const admin = postgres(url("postgres"), { max: 1, onnotice: () => {} });
  onEnd(() => admin.end({ timeout: 1 }));
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
      // A connection reports its statistics at most once a second.
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

/** Waits for a command; pipes that a daemon inherits and keeps open do not matter. */
async function run(command: string[]): Promise<void> {
  const child = Bun.spawn(command, { stdio: ["ignore", "ignore", "ignore"] });
  if ((await child.exited) !== 0) throw new Error(`This command failed: ${command.join(" ")}`);
}
