import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname } from "node:path";
import type { Log } from "../../lib/log.ts";
import { unreachable } from "./error.ts";

/** The user that owns the cluster and runs the server. */
export type ProcessOwner = { uid: number; gid: number };

/** Starts a PostgreSQL program as the cluster's owner, without Parley's environment, which holds secrets. */
export type Launch = (program: string, args: string[], output: number | "pipe") => ChildProcess;

const environment = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C", TZ: "UTC" };

const isRoot = () => process.getuid?.() === 0;

/**
 * The owner of an existing cluster. For a new one the current user, or `postgres` or `nobody` if that is root, since
 * PostgreSQL refuses to run as root.
 */
export function findOwner(clusterDir: string): ProcessOwner {
  const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  if (!isRoot()) return own;
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
 * Finds a way to start programs as `owner`. With setpriv (part of util-linux) the server ends when Parley dies, even by kill
 * -9. Without it, a leftover server is ended at the next start. The server gets no capability, unless root denies its user a
 * parent folder of the cluster: then it gets one, with a warning.
 * @throws EmbeddedPostgresError when the owner has no access to the cluster.
 */
export function createLauncher(owner: ProcessOwner, clusterDir: string, log: Log): Launch {
  const closed = isRoot() ? listClosedFolders(clusterDir, owner) : [];
  // Tries the weaker capability first: passing through a closed folder needs no write access.
  const capabilities = closed.length > 0 ? ["dac_read_search", "dac_override"] : [null];
  const prefixes = capabilities.flatMap((capability) => listPrefixes(owner, capability));
  const found = prefixes.find(({ prefix }) => isWorking(prefix));
  if (!found && closed.length > 0) throw unreachable(clusterDir, owner);
  if (found?.capability)
    log.warn(
      { folders: closed, capability: found.capability },
      `Postgres runs as user ${owner.uid} with the capability ${found.capability}, because that user has no access to ${closed.join(", ")}. To avoid that, use \`chmod o+x ${closed.join(" ")}\` or another DATA_DIR.`,
    );
  const prefix = found?.prefix;
  return (program, args, output) => {
    const [command = program, ...rest] = [...(prefix ?? []), program, ...args];
    return spawn(command, rest, {
      // Switching to the same user may be forbidden (systemd's SystemCallFilter).
      ...(prefix || !isRoot() ? {} : owner),
      // A separate session, so that Ctrl-C only reaches Parley, which stops the server last.
      detached: true,
      cwd: "/",
      env: environment,
      stdio: ["ignore", output, output],
    });
  };
}

type Prefix = { prefix: string[]; capability: string | null };

/** Drops capabilities granted to Parley itself (systemd's `AmbientCapabilities`), if setpriv can. */
const listPrefixes = (owner: ProcessOwner, capability: string | null): Prefix[] =>
  [["-all"], []].map((dropped) => ({ prefix: setpriv(owner, capability, dropped), capability }));

function setpriv(owner: ProcessOwner, capability: string | null, dropped: string[]): string[] {
  const user = isRoot() ? [`--reuid=${owner.uid}`, `--regid=${owner.gid}`, "--clear-groups"] : [];
  const changes = [...dropped, ...(capability ? [`+${capability}`] : [])].join(",");
  const rights = changes ? [`--inh-caps=${changes}`, `--ambient-caps=${changes}`] : [];
  return ["setpriv", ...user, ...rights, "--no-new-privs", "--pdeathsig=INT", "--"];
}

/** Old versions lack options, and a container may forbid some. */
function isWorking(prefix: string[]): boolean {
  const [command = "", ...args] = [...prefix, "true"];
  return spawnSync(command, args, { env: environment, stdio: "ignore" }).status === 0;
}

/** Whether the user may pass through every parent folder of `path`. */
export const isReachable = (path: string, owner: ProcessOwner): boolean => listClosedFolders(path, owner).length === 0;

/** The parent folders of `path` that the user may not pass through, from the top down. */
function listClosedFolders(path: string, { uid, gid }: ProcessOwner): string[] {
  const folder = dirname(path);
  const status = statSync(folder);
  const needed = status.uid === uid ? 0o100 : status.gid === gid ? 0o010 : 0o001;
  const closed = (status.mode & needed) === 0 ? [folder] : [];
  return folder === "/" ? closed : [...listClosedFolders(folder, { uid, gid }), ...closed];
}
