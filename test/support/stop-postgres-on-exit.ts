/** These references keep the watchers' stdin pipes open. The pipes close when this process exits. */
const watchers: Bun.Subprocess[] = [];

const SCRIPT = `
  read -r _
  pid=$(head -n 1 "$1/postmaster.pid" 2>/dev/null)
  [ -z "$pid" ] || kill -QUIT "$pid" 2>/dev/null
  while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
  rm -rf "$2"`;

/**
 * Stops a Postgres server and removes its folder when this process exits, even if the process crashes. Bun has no hook
 * for the end of a test run, and its parallel workers run the preload's `afterAll` after every file.
 */
export function stopPostgresOnExit({ dataDirectory, folder }: { dataDirectory: string; folder: string }): void {
  const watcher = Bun.spawn(["setsid", "sh", "-c", SCRIPT, "sh", dataDirectory, folder], {
    stdio: ["pipe", "ignore", "ignore"],
  });
  watcher.unref();
  watchers.push(watcher);
}
