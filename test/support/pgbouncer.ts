import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { atEndOfRun } from "./end-of-run.ts";

export type TestPgBouncer = Awaited<ReturnType<typeof startPgBouncer>>;

type Options = {
  /** The socket folder of the server behind it. */
  socketDirectory: string;
  /** The port of the server behind it; absent: 5432. */
  port?: number;
  mode: "session" | "transaction" | "statement";
  /** Connections to the server, per database and role. */
  poolSize?: number;
  /** Additional lines of pgbouncer.ini. */
  settings?: Record<string, string>;
  users?: string[];
};

const BINARIES = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];
const READY_POLL_MS = 10;

/** Starts the machine's PgBouncer on a free port of 127.0.0.1, in front of every database of a server. */
export async function startPgBouncer({
  socketDirectory,
  port: serverPort = 5432,
  mode,
  poolSize = 10,
  settings = {},
  users = ["postgres"],
}: Options) {
  const binary = BINARIES.find((path) => existsSync(path));
  if (!binary) throw new Error("No pgbouncer on this machine; `make test` installs it.");
  const directory = mkdtempSync(join(tmpdir(), "pb-"));
  const port = findFreePort();
  const file = join(directory, "pgbouncer.ini");
  let child: Bun.Subprocess | undefined;

  function write(changed: Record<string, string> = {}): void {
    const all = {
      listen_addr: "127.0.0.1",
      listen_port: String(port),
      unix_socket_dir: "",
      auth_type: "trust",
      auth_file: join(directory, "users.txt"),
      pool_mode: mode,
      default_pool_size: String(poolSize),
      max_client_conn: "1000",
      // An unavailable server is retried soon.
      server_login_retry: "1",
      admin_users: "postgres",
      ...settings,
      ...changed,
    };
    const lines = Object.entries(all).map(([name, value]) => `${name} = ${value}`);
    writeFileSync(
      file,
      `[databases]\n* = host=${socketDirectory} port=${serverPort}\n[pgbouncer]\n${lines.join("\n")}\n`,
    );
  }

  async function start(): Promise<void> {
    // It does not run as root.
    const asPostgres = process.getuid?.() === 0 ? ["runuser", "-u", "postgres", "--"] : [];
    const started = Bun.spawn([...asPostgres, binary ?? "", "-q", file], { stdio: ["ignore", "ignore", "pipe"] });
    child = started;
    while (!(await isListening(port))) {
      if (started.exitCode !== null) throw new Error(`PgBouncer ended: ${await new Response(started.stderr).text()}`);
      await Bun.sleep(READY_POLL_MS);
    }
  }

  /** Kills it; connections break. */
  async function kill(): Promise<void> {
    if (!child) return;
    // `runuser` is its parent, and a SIGKILL would leave its child running.
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
  write();
  Bun.spawnSync(["chmod", "-R", "a+rX", directory]);
  atEndOfRun(stop);
  await start();
  return {
    port,
    url: (database: string, user = "postgres") => `postgres://${user}@127.0.0.1:${port}/${database}`,
    start,
    kill,
    stop,
    /** Changes settings; they apply from the next `RELOAD` or start on. */
    write,
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
