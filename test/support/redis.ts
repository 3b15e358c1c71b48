import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { atEndOfRun } from "./end-of-run.ts";

export type TestRedis = Awaited<ReturnType<typeof startRedis>>;

const READY_POLL_MS = 10;
/**
 * The server's own name, or what Debian's `redis-tools` has of it: the same program, which is the server when it is called
 * so. That package brings no service, so nothing runs beside the tests.
 */
const BINARIES = ["/usr/bin/redis-server", "/usr/local/bin/redis-server", "/usr/bin/redis-check-rdb"];

/** Starts a Redis of the machine's on a free port of 127.0.0.1, which keeps everything in memory. @param more settings. */
export async function startRedis(more: Record<string, string> = {}) {
  const binary = BINARIES.find((path) => existsSync(path));
  if (!binary) throw new Error("No redis-server on this machine; `make test` installs it.");
  const directory = mkdtempSync(join(tmpdir(), "parley-redis-"));
  const port = findFreePort();
  const url = `redis://127.0.0.1:${port}`;
  let child: Bun.Subprocess | undefined;

  async function start(): Promise<void> {
    const settings = { port: String(port), bind: "127.0.0.1", save: "", appendonly: "no", dir: directory, ...more };
    const flags = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
    const server = Bun.spawn([binary ?? "", ...flags], {
      argv0: "redis-server",
      stdio: ["ignore", "ignore", "ignore"],
    });
    child = server;
    while (!(await answers(port))) {
      if (server.exitCode !== null) throw new Error(`Redis ended with ${server.exitCode}.`);
      await Bun.sleep(READY_POLL_MS);
    }
  }

  /** Ends it as a crash does; connections break. */
  async function kill(): Promise<void> {
    child?.kill("SIGKILL");
    await child?.exited;
    child = undefined;
  }

  async function stop(): Promise<void> {
    await kill();
    rmSync(directory, { recursive: true, force: true });
  }

  // Should a test end too early to do it itself, nothing of it stays.
  atEndOfRun(stop);
  await start();
  return {
    url,
    findPid: () => child?.pid ?? null,
    start,
    kill,
    stop,

    /** Has the time of these keys run out in a database of it, as Redis' own clock would later. */
    async endTimes(pattern: string, db: number): Promise<void> {
      const client = new Redis(url, { db });
      const keys = await client.keys(pattern);
      if (keys.length === 0) throw new Error(`Redis has no ${pattern}.`);
      for (const key of keys) await client.pexpire(key, 0);
      client.disconnect();
    },

    /** Leaves its connections open, and says nothing any more. */
    freeze: () => void child?.kill("SIGSTOP"),
    thaw: () => void child?.kill("SIGCONT"),
  };
}

async function answers(port: number): Promise<boolean> {
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
  const isThere = await promise;
  socket.end();
  return isThere;
}

export function findFreePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
