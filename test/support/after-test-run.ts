type Cleanup = () => Promise<void> | void;

const cleanups: Cleanup[] = [];

/** Registers a cleanup to run after the last test file. In a parallel worker, it runs after the current test file. */
export function afterTestRun(cleanup: Cleanup): void {
  cleanups.push(cleanup);
}

/** Runs the registered cleanups, newest first. Only preload.ts calls this function. */
export async function runCleanups(): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}
