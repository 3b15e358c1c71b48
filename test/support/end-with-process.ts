/** They read from a pipe of this process: kept, so that it is closed by nothing but its end. */
const watchers: Bun.Subprocess[] = [];

const SCRIPT = `
  read -r _
  pid=$(head -n 1 "$1/postmaster.pid" 2>/dev/null)
  [ -z "$pid" ] || kill -QUIT "$pid" 2>/dev/null
  while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
  rm -rf "$2"`;

/**
 * Ends a Postgres, and removes its folder, once this process is gone in whatever way. Bun tells a test run of no exit, and
 * of its parallel workers each does what `afterAll` of a preload says after every file.
 */
export function endWithProcess({ cluster, folder }: { cluster: string; folder: string }): void {
  const watcher = Bun.spawn(["setsid", "sh", "-c", SCRIPT, "sh", cluster, folder], {
    stdio: ["pipe", "ignore", "ignore"],
  });
  watcher.unref();
  watchers.push(watcher);
}
