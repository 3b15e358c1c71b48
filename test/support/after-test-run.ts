type Cleanup = () => Promise<void> | void;

const cleanups: Cleanup[] = [];

/** Registers a cleanup to run after the last test file or, in a parallel worker, after the current one. */
export function afterTestRun(cleanup: Cleanup): void {
  cleanups.push(cleanup);
}

/** Runs the registered cleanups, newest first. Only the preload calls it. */
export async function runCleanups(): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}
