import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stopLeftoverServer } from "../../db/embedded/postmaster-file.ts";
import { SHARED_PROGRAMS_DIR } from "../../db/embedded.ts";
import { build } from "../../lib/build.ts";
import { createLog } from "../../lib/log.ts";
import { CommandError } from "../command.ts";
import { runChild, startChild } from "./child.ts";
import { type ServerProcess, type StartOptions, startServer } from "./server.ts";
import { recordSharedPrograms } from "./shared-programs.ts";

/** How to start this executable as a child process. */
type Launcher = { command: string; args: readonly string[]; environment: Record<string, string> };

export type Sandbox = ReturnType<typeof createSandbox>;

const REMOVE_ATTEMPTS_MAX = 100;
const REMOVE_PAUSE_MS = 50;

/**
 * Creates a temporary folder for servers and their data. Everything started here is a child process with its own environment,
 * so that the user's settings don't affect it.
 */
export function createSandbox() {
  const folder = createFolder();
  const removeNewPrograms = process.getuid?.() === 0 ? recordSharedPrograms(SHARED_PROGRAMS_DIR) : async () => {};
  const logsDir = join(folder, "logs");
  const workDir = join(folder, "empty");
  for (const path of [logsDir, workDir]) mkdirSync(path, { mode: 0o700 });
  const launcher = findLauncher(folder);
  const children = new Set<ReturnType<typeof startChild>>();
  let dataDirs = 0;
  const closers: (() => Promise<void>)[] = [];
  let starts = 0;
  let isClosed = false;

  function spawn(args: readonly string[], settings: Record<string, string>) {
    // An interrupted check may still be running.
    if (isClosed) throw new Error("The self-test was stopped.");
    starts += 1;
    const name = `${String(starts).padStart(2, "0")}-${args[0]}`;
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
  // The last resort, for a second Ctrl-C or an uncaught error.
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
      dataDirs += 1;
      return join(folder, String(dataDirs));
    },

    /** Starts `parley serve` and waits until it is ready. */
    start: (options: StartOptions): Promise<ServerProcess> => startServer(spawn, options),

    /** Runs a command and waits until it exits. @throws Error with its output if it fails. */
    run: (args: readonly string[], settings: Record<string, string>): Promise<{ tookMs: number }> =>
      runChild(spawn(args, settings), args.join(" ")),

    /** Registers a callback that must run before the folder is removed. */
    onClose(close: () => Promise<void>): void {
      closers.push(close);
    },

    /** Stops all processes, and removes the folder except for what `keep` says. */
    async close(keep: "nothing" | "logs" | "everything"): Promise<void> {
      isClosed = true;
      const running = [...children];
      killAll();
      await Promise.all(running.map(({ exited }) => exited));
      for (const close of closers.splice(0).reverse()) await close();
      // Where setpriv exists, Postgres exits by itself when its Parley does.
      const log = createLog("silent", "json");
      for (const name of readdirSync(folder)) await stopLeftoverServer(join(folder, name, "postgres"), log);
      process.off("exit", onExit);
      await removeNewPrograms();
      if (keep === "everything") return;
      for (const name of keep === "nothing" ? [""] : readdirSync(folder).filter((name) => name !== "logs"))
        await removeTree(join(folder, name));
    },
  };
}

/** Creates the folder. Its path is short, because it must fit in a socket address. */
function createFolder(): string {
  try {
    const folder = mkdtempSync(join(tmpdir(), "parley-self-"));
    // If this runs as root, Postgres runs as another user, who needs access.
    if (process.getuid?.() === 0) chmodSync(folder, 0o711);
    else requirePrograms(folder);
    return folder;
  } catch (error) {
    if (error instanceof CommandError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new CommandError(`No folder can be created in ${tmpdir()} (${reason}); set TMPDIR to a writable folder.`);
  }
}

/** @throws CommandError, after removing the folder, if no program can be run in it. */
function requirePrograms(folder: string): void {
  const program = join(folder, "program");
  writeFileSync(program, "#!/bin/sh\n", { mode: 0o700 });
  const { error } = spawnSync(program, { stdio: "ignore" });
  rmSync(program);
  if (!error) return;
  rmSync(folder, { recursive: true });
  throw new CommandError(
    `No program can be run in ${tmpdir()}, which is probably mounted with \`noexec\`; set TMPDIR to a folder on another disk.`,
  );
}

function findLauncher(home: string): Launcher {
  const environment = { PATH: process.env.PATH ?? "/usr/bin:/bin", HOME: home };
  // If Parley runs from source, the executable is Bun.
  const ownCommand = build.commit === "source" ? [process.execPath, "--no-env-file", Bun.main] : [process.execPath];
  // If this process is killed, its servers are killed too.
  const prefix = ["setpriv", "--pdeathsig=KILL", "--"];
  const [program = "", ...options] = prefix;
  const isAvailable = spawnSync(program, [...options, "true"], { stdio: "ignore" }).status === 0;
  const [command = process.execPath, ...args] = [...(isAvailable ? prefix : []), ...ownCommand];
  return { command, args, environment };
}

/** Removes a folder. Retries while a dying Postgres still writes to it. @throws CommandError if it can't be removed. */
async function removeTree(path: string): Promise<void> {
  for (let attempts = 1; existsSync(path); attempts += 1) {
    try {
      rmSync(path, { recursive: true, force: true });
    } catch {
      // Retried below.
    }
    if (attempts >= REMOVE_ATTEMPTS_MAX) throw new CommandError(`${path} can't be removed; remove it by hand.`);
    if (existsSync(path)) await Bun.sleep(REMOVE_PAUSE_MS);
  }
}
