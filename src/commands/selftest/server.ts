import { join } from "node:path";
import { readPostmasterFile } from "../../db/embedded/postmaster-file.ts";
import { isClusterServer } from "../../db/embedded/process.ts";
import { type Child, quoteLog } from "./child.ts";
import { createRestClient, type RestClient } from "./rest.ts";

export type StartOptions = {
  dataDir: string;
  settings: Record<string, string>;
  /** If absent, a free port is used. */
  port?: number;
};

/** A running `parley serve`. */
export type ServerProcess = {
  readonly url: string;
  readonly port: number;
  readonly dataDir: string;
  readonly rest: RestClient;
  /** Time from the start of the process until `/readyz` returned 200. */
  readonly readyMs: number;
  /** Kills the server and its Postgres simultaneously with SIGKILL, to simulate a machine crash. */
  kill(): Promise<void>;
  /** Sends SIGTERM and waits until the server has exited. */
  stop(): Promise<{ code: number | string; durationMs: number }>;
};

type Spawn = (args: readonly string[], settings: Record<string, string>) => Child;

const START_TIMEOUT_MS = 45_000;
const POLL_MS = 10;

/** Starts a server and waits until it is ready. @throws Error if it exits or doesn't become ready. */
export async function startServer(spawn: Spawn, { dataDir, settings, port = 0 }: StartOptions): Promise<ServerProcess> {
  const startedAtMs = performance.now();
  const child = spawn(["serve"], { HOST: "127.0.0.1", PORT: String(port), DATA_DIR: dataDir, ...settings });
  const boundPort = await poll(child, () => /"address":"127\.0\.0\.1:(\d+)"/.exec(child.readLog())?.[1]);
  const url = `http://127.0.0.1:${boundPort}`;
  const rest = createRestClient(url);
  await poll(child, async () => ((await rest.request("/readyz")).status === 200 ? true : undefined));
  const readyMs = performance.now() - startedAtMs;

  return {
    url,
    port: Number(boundPort),
    dataDir,
    rest,
    readyMs,

    async kill() {
      const clusterDir = join(dataDir, "postgres");
      const postgres = readPostmasterFile(clusterDir);
      const isOwnPostgres = postgres !== null && (await isClusterServer(clusterDir, postgres));
      child.kill("SIGKILL");
      if (isOwnPostgres) process.kill(postgres.pid, "SIGKILL");
      await child.exited;
    },

    async stop() {
      const stoppedAtMs = performance.now();
      child.kill("SIGTERM");
      return { code: await child.exited, durationMs: performance.now() - stoppedAtMs };
    },
  };
}

/** Calls `probe` until it returns a value. @throws Error if the server exits or doesn't become ready. */
async function poll<T>(child: Child, probe: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const deadlineMs = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    if (!child.isRunning())
      throw new Error(`expected a running server, but it exited (${await child.exited}): ${quoteLog(child)}`);
    if (performance.now() > deadlineMs)
      throw new Error(`expected a server to be ready within ${START_TIMEOUT_MS / 1_000} s: ${quoteLog(child)}`);
    await Bun.sleep(POLL_MS);
  }
}
