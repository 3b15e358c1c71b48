import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname } from "node:path";
import type { Log } from "../../lib/log.ts";
import { unreachable } from "./error.ts";

/** Who owns the cluster and runs the server. */
export type ProcessOwner = { uid: number; gid: number };

/** Starts a program of PostgreSQL as the cluster's owner, without the environment of Parley, which holds secrets. */
export type Launch = (program: string, args: string[], output: number | "pipe") => ChildProcess;

const environment = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C", TZ: "UTC" };

const isRoot = () => process.getuid?.() === 0;

/**
 * The owner of an existing cluster; for a new one this user, or, because PostgreSQL refuses to run as root, `postgres`
 * or else `nobody`.
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
 * Finds out how to start programs as `owner`. With setpriv (part of util-linux) the server ends when Parley dies, even
 * by kill -9. Without it a server that was left over is ended at the next start. The server gets no capability, unless
 * root keeps its user out of a folder above the cluster: then one, with a warning.
 * @throws EmbeddedPostgresError when the owner could not reach the cluster.
 */
export function createLauncher(owner: ProcessOwner, clusterDir: string, log: Log): Launch {
  const closed = isRoot() ? listClosedFolders(clusterDir, owner) : [];
  // The weaker of the two is tried first: to pass through a folder that is closed to others, it need not write there.
  const capabilities = closed.length > 0 ? ["dac_read_search", "dac_override"] : [null];
  const prefixes = capabilities.flatMap((capability) => listPrefixes(owner, capability));
  const found = prefixes.find(({ prefix }) => isWorking(prefix));
  if (!found && closed.length > 0) throw unreachable(clusterDir, owner);
  if (found?.capability)
    log.warn(
      { folders: closed, capability: found.capability },
      `Postgres runs as user ${owner.uid} with the capability ${found.capability}, because that user cannot pass ${closed.join(", ")}. To run it without, use \`chmod o+x ${closed.join(" ")}\` or another DATA_DIR.`,
    );
  const prefix = found?.prefix;
  return (program, args, output) => {
    const [command = program, ...rest] = [...(prefix ?? []), program, ...args];
    return spawn(command, rest, {
      // A user that changes to itself may be forbidden to (systemd's SystemCallFilter).
      ...(prefix || !isRoot() ? {} : owner),
      // A session of its own, so that Ctrl-C reaches Parley alone, which ends the server last.
      detached: true,
      cwd: "/",
      env: environment,
      stdio: ["ignore", output, output],
    });
  };
}

type Prefix = { prefix: string[]; capability: string | null };

/** Without what Parley itself may have been given (systemd's `AmbientCapabilities`), if setpriv can drop it. */
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

/** Whether every folder above `path` lets the user pass. */
export const isReachable = (path: string, owner: ProcessOwner): boolean => listClosedFolders(path, owner).length === 0;

/** The folders above `path` that do not let the user pass, from the top down. */
function listClosedFolders(path: string, { uid, gid }: ProcessOwner): string[] {
  const folder = dirname(path);
  const status = statSync(folder);
  const needed = status.uid === uid ? 0o100 : status.gid === gid ? 0o010 : 0o001;
  const closed = (status.mode & needed) === 0 ? [folder] : [];
  return folder === "/" ? closed : [...listClosedFolders(folder, { uid, gid }), ...closed];
}
