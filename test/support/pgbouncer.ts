import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterTestRun } from "./after-test-run.ts";

export type TestPgBouncer = Awaited<ReturnType<typeof startPgBouncer>>;

type Options = {
  /** The folder of Postgres' Unix socket. */
  socketDirectory: string;
  /** Postgres' port. The default is 5432. */
  port?: number;
  mode: "session" | "transaction" | "statement";
  /** The number of connections to Postgres per database and role. */
  poolSize?: number;
  /** Additional settings in pgbouncer.ini. */
  settings?: Record<string, string>;
  users?: string[];
};

const BINARIES = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];
const READY_POLL_MS = 10;

/** Starts this machine's PgBouncer on a free port of 127.0.0.1, in front of all databases of a Postgres server. */
export async function startPgBouncer({
  socketDirectory,
  port: serverPort = 5432,
  mode,
  poolSize = 10,
  settings = {},
  users = ["postgres"],
}: Options) {
  const binary = BINARIES.find((path) => existsSync(path));
  if (!binary) throw new Error("PgBouncer is not installed; run `make test` to install it.");
  const directory = mkdtempSync(join(tmpdir(), "pb-"));
  const port = findFreePort();
  const file = join(directory, "pgbouncer.ini");
  let child: Bun.Subprocess | undefined;

  function writeConfig(changedSettings: Record<string, string> = {}): void {
    const pgbouncerSettings = {
      listen_addr: "127.0.0.1",
      listen_port: String(port),
      unix_socket_dir: "",
      auth_type: "trust",
      auth_file: join(directory, "users.txt"),
      pool_mode: mode,
      default_pool_size: String(poolSize),
      max_client_conn: "1000",
      // Makes PgBouncer retry an unavailable server after a second.
      server_login_retry: "1",
      admin_users: "postgres",
      ...settings,
      ...changedSettings,
    };
    const lines = Object.entries(pgbouncerSettings).map(([name, value]) => `${name} = ${value}`);
    writeFileSync(
      file,
      `[databases]\n* = host=${socketDirectory} port=${serverPort}\n[pgbouncer]\n${lines.join("\n")}\n`,
    );
  }

  async function start(): Promise<void> {
    // PgBouncer doesn't run as root.
    const postgresUserPrefix = process.getuid?.() === 0 ? ["runuser", "-u", "postgres", "--"] : [];
    const pgbouncer = Bun.spawn([...postgresUserPrefix, binary ?? "", "-q", file], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    child = pgbouncer;
    while (!(await isListening(port))) {
      if (pgbouncer.exitCode !== null)
        throw new Error(`PgBouncer exited: ${await new Response(pgbouncer.stderr).text()}`);
      await Bun.sleep(READY_POLL_MS);
    }
  }

  /** Kills PgBouncer, which breaks its connections. */
  async function kill(): Promise<void> {
    if (!child) return;
    // `child` can be `runuser`. Killing only that process would leave PgBouncer running.
    const pids = new TextDecoder().decode(Bun.spawnSync(["pgrep", "-P", String(child.pid)]).stdout);
    for (const pid of pids.split("\n").filter(Boolean)) process.kill(Number(pid), "SIGKILL");
    child.kill("SIGKILL");
    await child.exited;
    child = undefined;
  }

  async function stop(): Promise<void> {
    await kill();
    rmSync(directory, { recursive: true, force: true });
  }

  writeFileSync(join(directory, "users.txt"), users.map((user) => `"${user}" ""\n`).join(""));
  writeConfig();
  Bun.spawnSync(["chmod", "-R", "a+rX", directory]);
  afterTestRun(stop);
  await start();
  return {
    port,
    url: (database: string, user = "postgres") => `postgres://${user}@127.0.0.1:${port}/${database}`,
    start,
    kill,
    stop,
    /** Changes settings. They apply after a `RELOAD` or a restart. */
    writeConfig,
  };
}

async function isListening(port: number): Promise<boolean> {
  const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } }).catch(() => null);
  socket?.end();
  return socket !== null;
}

function findFreePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
