import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

type Cleanup = () => unknown;

const cleanups: Cleanup[] = [];

/** Registers a cleanup. Cleanups run in reverse order when the benchmarks finish, even after an error or Ctrl-C. */
export function addCleanup(cleanup: Cleanup): void {
  cleanups.push(cleanup);
}

export async function runCleanups(): Promise<void> {
  for (let cleanup = cleanups.pop(); cleanup; cleanup = cleanups.pop()) await cleanup();
}

/** Creates a folder that is removed when the benchmarks finish. */
export function createTemporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "parley-bench-"));
  addCleanup(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Returns a TCP port that is currently free. */
export function findFreePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
