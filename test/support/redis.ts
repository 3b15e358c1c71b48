import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { atEndOfRun } from "./end-of-run.ts";

export type TestRedis = Awaited<ReturnType<typeof startRedis>>;

const READY_POLL_MS = 10;
/**
 * The server's name, or the binary in Debian's `redis-tools`: the same program, which is the server if called by that
 * name. That package has no service, so nothing else runs during the tests.
 */
const BINARIES = ["/usr/bin/redis-server", "/usr/local/bin/redis-server", "/usr/bin/redis-check-rdb"];

/** Starts the machine's Redis on a free port of 127.0.0.1, in memory only. @param more settings. */
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
      if (server.exitCode !== null) throw new Error(`Redis exited with ${server.exitCode}.`);
      await Bun.sleep(READY_POLL_MS);
    }
  }

  /** Kills it; connections break. */
  async function kill(): Promise<void> {
    child?.kill("SIGKILL");
    await child?.exited;
    child = undefined;
  }

  async function stop(): Promise<void> {
    await kill();
    rmSync(directory, { recursive: true, force: true });
  }

  // Cleans up if a test ends too early to do it.
  atEndOfRun(stop);
  await start();
  return {
    url,
    findPid: () => child?.pid ?? null,
    start,
    kill,
    stop,

    /** Expires these keys in a database, as Redis' clock would later. */
    async endTimes(pattern: string, db: number): Promise<void> {
      const client = new Redis(url, { db });
      const keys = await client.keys(pattern);
      if (keys.length === 0) throw new Error(`Redis has no ${pattern}.`);
      for (const key of keys) await client.pexpire(key, 0);
      client.disconnect();
    },

    /** Pauses it: its connections stay open, but it no longer responds. */
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
