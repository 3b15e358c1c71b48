/** They read from a pipe of this process: kept open, so that it closes only when the process ends. */
const watchers: Bun.Subprocess[] = [];

const SCRIPT = `
  read -r _
  pid=$(head -n 1 "$1/postmaster.pid" 2>/dev/null)
  [ -z "$pid" ] || kill -QUIT "$pid" 2>/dev/null
  while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
  rm -rf "$2"`;

/**
 * Stops a Postgres and removes its folder once this process has ended, however it ended. Bun has no hook for the end of
 * a test run, and its parallel workers run `afterAll` of a preload after every file.
 */
export function endWithProcess({ cluster, folder }: { cluster: string; folder: string }): void {
  const watcher = Bun.spawn(["setsid", "sh", "-c", SCRIPT, "sh", cluster, folder], {
    stdio: ["pipe", "ignore", "ignore"],
  });
  watcher.unref();
  watchers.push(watcher);
}
