import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { atEndOfRun } from "./end-of-run.ts";
import { endWithProcess } from "./end-with-process.ts";

type Options = {
  settings?: Record<string, string>;
  /** Also listens on 127.0.0.1; by default only on its socket. */
  port?: number;
  /** Lives as long as this process, not only as long as the tests of one file. */
  isKept?: boolean;
};

const READY_POLL_MS = 20;

/**
 * Starts the machine's Postgres, the oldest installed or `TEST_POSTGRES_VERSION`, in a separate folder; its superuser
 * is `postgres`.
 */
export async function startInstalledPostgres({ settings = {}, port, isKept = false }: Options = {}) {
  const bin = findBinaries();
  const directory = mkdtempSync(join(tmpdir(), "pt-"));
  const asPostgres = process.getuid?.() === 0 ? ["runuser", "-u", "postgres", "--"] : [];
  if (asPostgres.length > 0) await run(["chown", "postgres", directory]);
  const data = join(directory, "data");
  const setup = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"];
  await run([...asPostgres, join(bin, "initdb"), "-D", data, ...setup]);
  const all = {
    listen_addresses: port === undefined ? "" : "127.0.0.1",
    ...(port !== undefined && { port: String(port) }),
    unix_socket_directories: directory,
    ...settings,
  };
  const flags = Object.entries(all).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const target = ["-h", directory, ...(port === undefined ? [] : ["-p", String(port)])];
  let child: Bun.Subprocess | undefined;

  async function start(): Promise<void> {
    const server = Bun.spawn([...asPostgres, join(bin, "postgres"), "-D", data, ...flags], {
      stdio: ["ignore", "ignore", "ignore"],
    });
    child = server;
    // Its socket exists a moment before it accepts connections.
    while ((await Bun.spawn([join(bin, "pg_isready"), "-q", ...target]).exited) !== 0) {
      if (server.exitCode !== null) throw new Error(`Postgres exited with ${server.exitCode}.`);
      await Bun.sleep(READY_POLL_MS);
    }
  }

  /** `immediate` is a crash: connections break, and the next start recovers. */
  async function halt(mode: "fast" | "immediate"): Promise<void> {
    await run([...asPostgres, join(bin, "pg_ctl"), "-D", data, "stop", "-m", mode]);
    // `runuser` is stopped along with its child, but isn't resumed with it.
    child?.kill("SIGCONT");
    await child?.exited;
    child = undefined;
  }

  /** Stops the server, and removes all its files. */
  async function stop(): Promise<void> {
    if (child) await halt("immediate");
    rmSync(directory, { recursive: true, force: true });
  }

  // Cleans up if a test ends too early to do it.
  if (isKept) endWithProcess({ cluster: data, folder: directory });
  else atEndOfRun(stop);
  await start();
  return {
    socketDirectory: directory,
    user: "postgres",
    start,
    halt,

    /** Runs statements as the superuser. */
    psql: (...statements: string[]): Promise<void> =>
      run([join(bin, "psql"), ...target, "-qX", "-U", "postgres", ...statements.flatMap((sql) => ["-c", sql])]),
    /** Runs a statement as the superuser at another address, such as that of a pooler. */
    run: (url: string, sql: string): Promise<void> => run([join(bin, "psql"), "-qX", url, "-c", sql]),

    /** The pid of the server's own process. */
    findPid: (): number => Number(readFileSync(join(data, "postmaster.pid"), "utf8").split("\n")[0]),
    stop,
  };
}

function findBinaries(): string {
  const root = "/usr/lib/postgresql";
  const installed = existsSync(root) ? readdirSync(root).sort((a, b) => Number(a) - Number(b)) : [];
  const wanted = process.env.TEST_POSTGRES_VERSION;
  const versions = wanted ? installed.filter((version) => version === wanted) : installed;
  const version = versions.find((candidate) => existsSync(join(root, candidate, "bin/initdb")));
  if (!version) throw new Error(`No Postgres ${wanted ?? ""} below ${root}; \`make test\` installs it.`);
  return join(root, version, "bin");
}

async function run(command: string[]): Promise<void> {
  const child = Bun.spawn(command, { stdout: "ignore", stderr: "pipe" });
  const output = new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`${command.join(" ")}: ${await output}`);
}
