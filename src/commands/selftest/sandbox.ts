import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stopLeftoverServer } from "../../db/embedded/postmaster-file.ts";
import { SHARED_PROGRAMS_DIR } from "../../db/embedded.ts";
import { build } from "../../lib/build.ts";
import { createLog } from "../../lib/log.ts";
import { CommandError } from "../command.ts";
import { startChild, waitForSuccess } from "./child.ts";
import { type ServerProcess, type StartOptions, startServer } from "./server.ts";
import { recordSharedPrograms } from "./shared-programs.ts";

/** How to start this executable as a child process. */
type Launcher = { command: string; args: readonly string[]; environment: Record<string, string> };

export type Sandbox = ReturnType<typeof createSandbox>;

const REMOVE_ATTEMPTS_MAX = 100;
const REMOVE_RETRY_INTERVAL_MS = 50;

/**
 * Creates a temporary folder for servers and their data. Servers and commands run as child processes with a clean environment,
 * so the user's settings don't affect them.
 */
export function createSandbox() {
  const folder = createFolder();
  const removeNewPrograms = process.getuid?.() === 0 ? recordSharedPrograms(SHARED_PROGRAMS_DIR) : async () => {};
  const logsDir = join(folder, "logs");
  const workDir = join(folder, "empty");
  for (const path of [logsDir, workDir]) mkdirSync(path, { mode: 0o700 });
  const launcher = findLauncher(folder);
  const children = new Set<ReturnType<typeof startChild>>();
  let dataDirCount = 0;
  const closeCallbacks: (() => Promise<void>)[] = [];
  let startCount = 0;
  let isClosed = false;

  function spawn(args: readonly string[], settings: Record<string, string>) {
    // After an interruption, a check may still be running.
    if (isClosed) throw new Error("The self-test was stopped.");
    startCount += 1;
    const name = `${String(startCount).padStart(2, "0")}-${args[0]}`;
    const child = startChild({
      command: launcher.command,
      args: [...launcher.args, ...args],
      environment: { ...launcher.environment, ...settings },
      workDir,
      logFile: join(logsDir, `${name}.log`),
    });
    children.add(child);
    void child.exited.then(() => children.delete(child));
    return child;
  }

  const killAll = () => {
    for (const child of children) child.kill("SIGKILL");
  };
  // After a second Ctrl-C or an uncaught error, this runs instead of `close`.
  const onExit = () => {
    killAll();
    try {
      rmSync(folder, { recursive: true, force: true });
    } catch {
      // Postgres is still shutting down.
    }
  };
  process.once("exit", onExit);

  return {
    folder,
    logsDir,

    /** Returns a path for a new data folder, which the server creates. */
    addDataDir(): string {
      dataDirCount += 1;
      return join(folder, String(dataDirCount));
    },

    /** Starts `parley serve` and waits until it is ready. */
    start: (options: StartOptions): Promise<ServerProcess> => startServer(spawn, options),

    /** Runs a command and waits until it exits. @throws Error with its output if it fails. */
    run: (args: readonly string[], settings: Record<string, string>): Promise<{ durationMs: number }> =>
      waitForSuccess(spawn(args, settings), args.join(" ")),

    /** Registers a callback to run before the folder is removed. */
    onClose(callback: () => Promise<void>): void {
      closeCallbacks.push(callback);
    },

    /** Stops all processes and removes the folder. @param keptContent which of the folder's contents to keep. */
    async close(keptContent: "nothing" | "logs" | "everything"): Promise<void> {
      isClosed = true;
      const runningChildren = [...children];
      killAll();
      await Promise.all(runningChildren.map(({ exited }) => exited));
      for (const callback of closeCallbacks.splice(0).reverse()) await callback();
      // Where setpriv is available, Postgres exits when its Parley exits. Otherwise it must be stopped here.
      const log = createLog("silent", "json");
      for (const name of readdirSync(folder)) await stopLeftoverServer(join(folder, name, "postgres"), log);
      process.off("exit", onExit);
      await removeNewPrograms();
      if (keptContent === "everything") return;
      for (const name of keptContent === "nothing" ? [""] : readdirSync(folder).filter((name) => name !== "logs"))
        await removeFolder(join(folder, name));
    },
  };
}

/** Creates the folder. Its path is short, because socket paths have a maximum length. */
function createFolder(): string {
  try {
    const folder = mkdtempSync(join(tmpdir(), "parley-self-"));
    // If this process runs as root, Postgres runs as a different user, who needs access to the folder.
    if (process.getuid?.() === 0) chmodSync(folder, 0o711);
    else requireExecutable(folder);
    return folder;
  } catch (error) {
    if (error instanceof CommandError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new CommandError(`${tmpdir()} can't be written (${reason}); set TMPDIR to a writable folder.`);
  }
}

/** Checks that programs can be run in the folder. Otherwise removes the folder. @throws CommandError. */
function requireExecutable(folder: string): void {
  const program = join(folder, "program");
  writeFileSync(program, "#!/bin/sh\n", { mode: 0o700 });
  const { error } = spawnSync(program, { stdio: "ignore" });
  rmSync(program);
  if (!error) return;
  rmSync(folder, { recursive: true });
  throw new CommandError(
    `Programs can't be run in ${tmpdir()}, which is probably mounted with \`noexec\`; set TMPDIR to a folder on a different disk.`,
  );
}

function findLauncher(home: string): Launcher {
  const environment = { PATH: process.env.PATH ?? "/usr/bin:/bin", HOME: home };
  // If Parley runs from source, the executable is Bun.
  const parleyCommand = build.commit === "source" ? [process.execPath, "--no-env-file", Bun.main] : [process.execPath];
  // If this process is killed, setpriv kills its servers too.
  const setprivCommand = ["setpriv", "--pdeathsig=KILL", "--"];
  const [program = "", ...options] = setprivCommand;
  const isAvailable = spawnSync(program, [...options, "true"], { stdio: "ignore" }).status === 0;
  const [command = process.execPath, ...args] = [...(isAvailable ? setprivCommand : []), ...parleyCommand];
  return { command, args, environment };
}

/** Removes a folder. Retries, because a Postgres that is exiting may still write to it. @throws CommandError if it can't be removed. */
async function removeFolder(path: string): Promise<void> {
  for (let attempts = 1; existsSync(path); attempts += 1) {
    try {
      rmSync(path, { recursive: true, force: true });
    } catch {
      // Retried below.
    }
    if (attempts >= REMOVE_ATTEMPTS_MAX) throw new CommandError(`${path} can't be removed; remove it by hand.`);
    if (existsSync(path)) await Bun.sleep(REMOVE_RETRY_INTERVAL_MS);
  }
}
