import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterTestRun } from "./after-test-run.ts";
import { stopPostgresOnExit } from "./stop-postgres-on-exit.ts";

type Options = {
  settings?: Record<string, string>;
  /** The TCP port on 127.0.0.1. If absent, Postgres listens only on its Unix socket. */
  port?: number;
  /** Whether the server runs until this process exits. By default, it runs until the end of the test file. */
  isProcessWide?: boolean;
};

const READY_POLL_MS = 20;

/**
 * Starts a new Postgres cluster of the version in `TEST_POSTGRES_VERSION`, by default the oldest version that is
 * installed on this machine. The cluster's superuser is `postgres`.
 */
export async function startInstalledPostgres({ settings = {}, port, isProcessWide = false }: Options = {}) {
  const binFolder = findBinFolder();
  const directory = mkdtempSync(join(tmpdir(), "pt-"));
  const postgresUserPrefix = process.getuid?.() === 0 ? ["runuser", "-u", "postgres", "--"] : [];
  if (postgresUserPrefix.length > 0) await runCommand(["chown", "postgres", directory]);
  const dataFolder = join(directory, "data");
  const initdbArgs = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"];
  await runCommand([...postgresUserPrefix, join(binFolder, "initdb"), "-D", dataFolder, ...initdbArgs]);
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
    const server = Bun.spawn([...postgresUserPrefix, join(binFolder, "postgres"), "-D", dataFolder, ...flags], {
      stdio: ["ignore", "ignore", "ignore"],
    });
    child = server;
    // The socket exists a moment before Postgres accepts connections.
    while ((await Bun.spawn([join(binFolder, "pg_isready"), "-q", ...connectionArgs]).exited) !== 0) {
      if (server.exitCode !== null) throw new Error(`Postgres exited with ${server.exitCode}.`);
      await Bun.sleep(READY_POLL_MS);
    }
  }

  /** Stops the server. The mode `immediate` breaks connections, so the next start runs crash recovery. */
  async function shutDown(mode: "fast" | "immediate"): Promise<void> {
    await runCommand([...postgresUserPrefix, join(binFolder, "pg_ctl"), "-D", dataFolder, "stop", "-m", mode]);
    // If a test has suspended Postgres, `runuser` is suspended too, and must be resumed separately.
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
  if (isProcessWide) stopPostgresOnExit({ dataDirectory: dataFolder, folder: directory });
  else afterTestRun(stop);
  await start();
  return {
    socketDirectory: directory,
    user: "postgres",
    start,
    shutDown,

    /** Runs statements as the superuser. */
    psql: (...statements: string[]): Promise<void> =>
      runCommand([
        join(binFolder, "psql"),
        ...connectionArgs,
        "-qX",
        "-U",
        "postgres",
        ...statements.flatMap((sql) => ["-c", sql]),
      ]),
    /** Runs a statement over a different connection URL, such as a pooler's. */
    psqlAt: (url: string, sql: string): Promise<void> => runCommand([join(binFolder, "psql"), "-qX", url, "-c", sql]),

    /** Returns the PID of the server's main process. */
    findPid: (): number => Number(readFileSync(join(dataFolder, "postmaster.pid"), "utf8").split("\n")[0]),
    stop,
  };
}

function findBinFolder(): string {
  const root = "/usr/lib/postgresql";
  const installedVersions = existsSync(root) ? readdirSync(root).sort((a, b) => Number(a) - Number(b)) : [];
  const requestedVersion = process.env.TEST_POSTGRES_VERSION;
  const versions = requestedVersion
    ? installedVersions.filter((version) => version === requestedVersion)
    : installedVersions;
  const version = versions.find((candidate) => existsSync(join(root, candidate, "bin/initdb")));
  if (!version) throw new Error(`No Postgres ${requestedVersion ?? ""} in ${root}; run \`make test\` to install it.`);
  return join(root, version, "bin");
}

async function runCommand(command: string[]): Promise<void> {
  const child = Bun.spawn(command, { stdout: "ignore", stderr: "pipe" });
  const stderr = new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`${command.join(" ")}: ${await stderr}`);
}
