import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname } from "node:path";
import type { Log } from "../../lib/log.ts";
import { createUnreachableError } from "./error.ts";

/** The user that owns the cluster and runs the server. */
export type ProcessOwner = { uid: number; gid: number };

/** Starts a PostgreSQL program as the cluster's owner. It doesn't inherit Parley's environment variables, because they contain secrets. */
export type Launch = (program: string, args: string[], output: number | "pipe") => ChildProcess;

const environment = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C", TZ: "UTC" };

const isRoot = () => process.getuid?.() === 0;

/**
 * Returns the owner of an existing cluster. For a new cluster, returns the current user. If that is root, returns `postgres` or
 * `nobody`, because PostgreSQL refuses to run as root.
 */
export function findOwner(clusterDir: string): ProcessOwner {
  const currentUser = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  if (!isRoot()) return currentUser;
  const status = statSync(clusterDir, { throwIfNoEntry: false });
  if (status && status.uid !== 0) return { uid: status.uid, gid: status.gid };
  return findUser("postgres") ?? findUser("nobody") ?? { uid: 65534, gid: 65534 };
}

function findUser(name: string): ProcessOwner | null {
  if (!existsSync("/etc/passwd")) return null;
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((line) => line.startsWith(`${name}:`));
  const [, , uid, gid] = line?.split(":") ?? [];
  return Number(uid) > 0 ? { uid: Number(uid), gid: Number(gid) } : null;
}

/**
 * Returns a function that starts programs as `owner`. It uses setpriv (part of util-linux) if possible, so that the server exits
 * when Parley does, even after kill -9. Otherwise, a leftover server is stopped at the next start. The server normally has no
 * capabilities. If its user can't enter a parent folder of the cluster, the server is given a capability to do so, and a warning is logged.
 * @throws EmbeddedPostgresError if the owner has no access to the cluster.
 */
export function createLauncher(owner: ProcessOwner, clusterDir: string, log: Log): Launch {
  const closedFolders = isRoot() ? listClosedFolders(clusterDir, owner) : [];
  // Tries the weaker capability first, because entering a folder needs no write access.
  const capabilities = closedFolders.length > 0 ? ["dac_read_search", "dac_override"] : [null];
  const prefixes = capabilities.flatMap((capability) => listCommandPrefixes(owner, capability));
  const workingPrefix = prefixes.find(({ prefix }) => doesCommandWork(prefix));
  if (!workingPrefix && closedFolders.length > 0) throw createUnreachableError(clusterDir, owner);
  if (workingPrefix?.capability)
    log.warn(
      { folders: closedFolders, capability: workingPrefix.capability },
      `Postgres runs as user ${owner.uid} with the capability ${workingPrefix.capability}, because that user has no access to ${closedFolders.join(", ")}. To avoid that, use \`chmod o+x ${closedFolders.join(" ")}\` or a different DATA_DIR.`,
    );
  const prefix = workingPrefix?.prefix;
  return (program, args, output) => {
    const [command = program, ...rest] = [...(prefix ?? []), program, ...args];
    return spawn(command, rest, {
      // Even switching to the same user may be forbidden (systemd's SystemCallFilter).
      ...(prefix || !isRoot() ? {} : owner),
      // Runs in its own session, so that Ctrl-C reaches only Parley, which stops the server last.
      detached: true,
      cwd: "/",
      env: environment,
      stdio: ["ignore", output, output],
    });
  };
}

type Prefix = { prefix: string[]; capability: string | null };

/** Lists setpriv commands to try. The first command drops Parley's own capabilities (systemd's `AmbientCapabilities`). */
const listCommandPrefixes = (owner: ProcessOwner, capability: string | null): Prefix[] =>
  [["-all"], []].map((dropped) => ({ prefix: createSetprivCommand(owner, capability, dropped), capability }));

function createSetprivCommand(owner: ProcessOwner, capability: string | null, dropped: string[]): string[] {
  const user = isRoot() ? [`--reuid=${owner.uid}`, `--regid=${owner.gid}`, "--clear-groups"] : [];
  const changes = [...dropped, ...(capability ? [`+${capability}`] : [])].join(",");
  const capabilityOptions = changes ? [`--inh-caps=${changes}`, `--ambient-caps=${changes}`] : [];
  return ["setpriv", ...user, ...capabilityOptions, "--no-new-privs", "--pdeathsig=INT", "--"];
}

/** Returns whether this setpriv command works. Old versions lack some options, and a container may forbid others. */
function doesCommandWork(prefix: string[]): boolean {
  const [command = "", ...args] = [...prefix, "true"];
  return spawnSync(command, args, { env: environment, stdio: "ignore" }).status === 0;
}

/** Returns whether the user can enter every parent folder of `path`. */
export const isReachable = (path: string, owner: ProcessOwner): boolean => listClosedFolders(path, owner).length === 0;

/** Lists the parent folders of `path` that the user can't enter, from the top down. */
function listClosedFolders(path: string, { uid, gid }: ProcessOwner): string[] {
  const folder = dirname(path);
  const status = statSync(folder);
  const needed = status.uid === uid ? 0o100 : status.gid === gid ? 0o010 : 0o001;
  const closed = (status.mode & needed) === 0 ? [folder] : [];
  return folder === "/" ? closed : [...listClosedFolders(folder, { uid, gid }), ...closed];
}
