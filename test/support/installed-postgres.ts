import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterTestRun } from "./after-test-run.ts";
import { stopPostgresOnExit } from "./stop-postgres-on-exit.ts";

type Options = {
  settings?: Record<string, string>;
  /** The TCP port on 127.0.0.1. If absent, Postgres only listens on its Unix socket. */
  port?: number;
  /** Whether the server runs until this process exits, not only until the end of the test file. */
  isProcessWide?: boolean;
};

const READY_POLL_MS = 20;

/**
 * Starts a new Postgres cluster with the oldest version installed on this machine, or with `TEST_POSTGRES_VERSION`. Its
 * superuser is `postgres`.
 */
export async function startInstalledPostgres({ settings = {}, port, isProcessWide = false }: Options = {}) {
  const bin = findBinaries();
  const directory = mkdtempSync(join(tmpdir(), "pt-"));
  const runAsPostgres = process.getuid?.() === 0 ? ["runuser", "-u", "postgres", "--"] : [];
  if (runAsPostgres.length > 0) await run(["chown", "postgres", directory]);
  const data = join(directory, "data");
  const setup = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"];
  await run([...runAsPostgres, join(bin, "initdb"), "-D", data, ...setup]);
  const serverSettings = {
    listen_addresses: port === undefined ? "" : "127.0.0.1",
    ...(port !== undefined && { port: String(port) }),
    unix_socket_directories: directory,
    ...settings,
  };
  const flags = Object.entries(serverSettings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const connectionArgs = ["-h", directory, ...(port === undefined ? [] : ["-p", String(port)])];
  let child: Bun.Subprocess | undefined;

  async function start(): Promise<void> {
    const server = Bun.spawn([...runAsPostgres, join(bin, "postgres"), "-D", data, ...flags], {
      stdio: ["ignore", "ignore", "ignore"],
    });
    child = server;
    // The socket exists a moment before Postgres accepts connections.
    while ((await Bun.spawn([join(bin, "pg_isready"), "-q", ...connectionArgs]).exited) !== 0) {
      if (server.exitCode !== null) throw new Error(`Postgres exited with ${server.exitCode}.`);
      await Bun.sleep(READY_POLL_MS);
    }
  }

  /** Stops the server. The mode `immediate` is like a crash: connections break, and the next start runs crash recovery. */
  async function shutDown(mode: "fast" | "immediate"): Promise<void> {
    await run([...runAsPostgres, join(bin, "pg_ctl"), "-D", data, "stop", "-m", mode]);
    // If a test suspended Postgres, `runuser` was suspended too, and doesn't resume when Postgres does.
    child?.kill("SIGCONT");
    await child?.exited;
    child = undefined;
  }

  /** Stops the server and removes its files. */
  async function stop(): Promise<void> {
    if (child) await shutDown("immediate");
    rmSync(directory, { recursive: true, force: true });
  }

  // Cleans up if a test fails before it calls `stop`.
  if (isProcessWide) stopPostgresOnExit({ dataDirectory: data, folder: directory });
  else afterTestRun(stop);
  await start();
  return {
    socketDirectory: directory,
    user: "postgres",
    start,
    shutDown,

    /** Runs statements as the superuser. */
    psql: (...statements: string[]): Promise<void> =>
      run([join(bin, "psql"), ...connectionArgs, "-qX", "-U", "postgres", ...statements.flatMap((sql) => ["-c", sql])]),
    /** Runs a statement over another connection URL, such as a pooler's. */
    psqlAt: (url: string, sql: string): Promise<void> => run([join(bin, "psql"), "-qX", url, "-c", sql]),

    /** Returns the PID of the server's main process. */
    findPid: (): number => Number(readFileSync(join(data, "postmaster.pid"), "utf8").split("\n")[0]),
    stop,
  };
}

function findBinaries(): string {
  const root = "/usr/lib/postgresql";
  const installed = existsSync(root) ? readdirSync(root).sort((a, b) => Number(a) - Number(b)) : [];
  const requestedVersion = process.env.TEST_POSTGRES_VERSION;
  const versions = requestedVersion ? installed.filter((version) => version === requestedVersion) : installed;
  const version = versions.find((candidate) => existsSync(join(root, candidate, "bin/initdb")));
  if (!version) throw new Error(`No Postgres ${requestedVersion ?? ""} below ${root}; \`make test\` installs it.`);
  return join(root, version, "bin");
}

async function run(command: string[]): Promise<void> {
  const child = Bun.spawn(command, { stdout: "ignore", stderr: "pipe" });
  const output = new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`${command.join(" ")}: ${await output}`);
}
