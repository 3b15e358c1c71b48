import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { afterTestRun } from "./after-test-run.ts";

export type TestRedis = Awaited<ReturnType<typeof startRedis>>;

const READY_POLL_MS = 10;
/**
 * If `argv[0]` is `redis-server`, the program `redis-check-rdb` in Debian's `redis-tools` package acts as the server.
 * Unlike the `redis-server` package, `redis-tools` doesn't start a service.
 */
const BINARIES = ["/usr/bin/redis-server", "/usr/local/bin/redis-server", "/usr/bin/redis-check-rdb"];

/** Starts this machine's Redis on a free port of 127.0.0.1, without persistence. */
export async function startRedis(extraSettings: Record<string, string> = {}) {
  const binary = BINARIES.find((path) => existsSync(path));
  if (!binary) throw new Error("Redis is not installed; run `make test` to install it.");
  const directory = mkdtempSync(join(tmpdir(), "parley-redis-"));
  const port = findFreePort();
  const url = `redis://127.0.0.1:${port}`;
  let child: Bun.Subprocess | undefined;

  async function start(): Promise<void> {
    const settings = {
      port: String(port),
      bind: "127.0.0.1",
      save: "",
      appendonly: "no",
      dir: directory,
      ...extraSettings,
    };
    const flags = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
    const server = Bun.spawn([binary ?? "", ...flags], {
      argv0: "redis-server",
      stdio: ["ignore", "ignore", "ignore"],
    });
    child = server;
    while (!(await respondsToPing(port))) {
      if (server.exitCode !== null) throw new Error(`Redis exited with ${server.exitCode}.`);
      await Bun.sleep(READY_POLL_MS);
    }
  }

  /** Kills Redis, which breaks its connections. */
  async function kill(): Promise<void> {
    child?.kill("SIGKILL");
    await child?.exited;
    child = undefined;
  }

  async function stop(): Promise<void> {
    await kill();
    rmSync(directory, { recursive: true, force: true });
  }

  // Cleans up if a test fails before it calls `stop`.
  afterTestRun(stop);
  await start();
  return {
    url,
    findPid: () => child?.pid ?? null,
    start,
    kill,
    stop,

    /** Expires the matching keys in a database. */
    async expireKeys(pattern: string, db: number): Promise<void> {
      const client = new Redis(url, { db });
      const keys = await client.keys(pattern);
      if (keys.length === 0) throw new Error(`Redis has no ${pattern}.`);
      for (const key of keys) await client.pexpire(key, 0);
      client.disconnect();
    },

    /** Suspends the process. Its connections stay open, but it stops responding. */
    pause: () => void child?.kill("SIGSTOP"),
    resume: () => void child?.kill("SIGCONT"),
  };
}

async function respondsToPing(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      open: (opened) => void opened.write("PING\r\n"),
      data: (_, bytes) => resolve(bytes.toString().startsWith("+PONG") || bytes.toString().startsWith("-NOAUTH")),
      close: () => resolve(false),
    },
  }).catch(() => null);
  if (!socket) return false;
  const hasResponded = await promise;
  socket.end();
  return hasResponded;
}

/** Returns a TCP port that is currently free. */
export function findFreePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
