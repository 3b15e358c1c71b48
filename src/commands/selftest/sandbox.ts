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
import { noteSharedPrograms } from "./shared-programs.ts";

/** How to start this executable as a child process. */
type Launcher = { command: string; args: readonly string[]; environment: Record<string, string> };

export type Sandbox = ReturnType<typeof createSandbox>;

const REMOVE_ATTEMPTS_MAX = 100;
const REMOVE_PAUSE_MS = 50;

/**
 * A temporary folder with servers in it. Everything that is started here is a child process with an environment of its own:
 * no setting of the user reaches it.
 */
export function createSandbox() {
  const folder = createFolder();
  const removeSharedPrograms = process.getuid?.() === 0 ? noteSharedPrograms(SHARED_PROGRAMS_DIR) : async () => {};
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
    // A check that was interrupted may still be running.
    if (isClosed) throw new Error("expected the self-test to go on, but it was ended");
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
  // The last resort: a second Ctrl+C, or an error that nobody caught.
  const onExit = () => {
    killAll();
    try {
      rmSync(folder, { recursive: true, force: true });
    } catch {
      // Postgres is still ending.
    }
  };
  process.once("exit", onExit);

  return {
    folder,
    logsDir,

    /** The path of a new data folder; the server creates it. */
    addDataDir(): string {
      dataDirs += 1;
      return join(folder, String(dataDirs));
    },

    /** Starts `parley serve` and waits until it is ready. */
    start: (options: StartOptions): Promise<ServerProcess> => startServer(spawn, options),

    /** Runs a command to its end. @throws Error with its output if it fails. */
    run: (args: readonly string[], settings: Record<string, string>): Promise<{ tookMs: number }> =>
      runChild(spawn(args, settings), args.join(" ")),

    /** Registers something else that has to be closed before the folder is removed. */
    onClose(close: () => Promise<void>): void {
      closers.push(close);
    },

    /** Ends all processes and removes the folder, or all of it but `keep`. */
    async close(keep: "nothing" | "logs" | "everything"): Promise<void> {
      isClosed = true;
      const running = [...children];
      killAll();
      await Promise.all(running.map(({ exited }) => exited));
      for (const close of closers.splice(0).reverse()) await close();
      // Postgres follows its Parley by itself where setpriv exists.
      const log = createLog("silent", "json");
      for (const name of readdirSync(folder)) await stopLeftoverServer(join(folder, name, "postgres"), log);
      process.off("exit", onExit);
      await removeSharedPrograms();
      if (keep === "everything") return;
      for (const name of keep === "nothing" ? [""] : readdirSync(folder).filter((name) => name !== "logs"))
        await removeTree(join(folder, name));
    },
  };
}

/** The path is short, because it has to fit into a socket's address. */
function createFolder(): string {
  try {
    const folder = mkdtempSync(join(tmpdir(), "parley-self-"));
    // As root, Postgres runs as another user, which needs access to the folders in it; its programs are elsewhere.
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
  // From source, the executable is Bun.
  const own = build.commit === "source" ? [process.execPath, "--no-env-file", Bun.main] : [process.execPath];
  // If this process is killed, its servers end too.
  const prefix = ["setpriv", "--pdeathsig=KILL", "--"];
  const [program = "", ...options] = prefix;
  const isAvailable = spawnSync(program, [...options, "true"], { stdio: "ignore" }).status === 0;
  const [command = process.execPath, ...args] = [...(isAvailable ? prefix : []), ...own];
  return { command, args, environment };
}

/** Retries while a dying Postgres still writes there. @throws CommandError if that doesn't end. */
async function removeTree(path: string): Promise<void> {
  for (let attempts = 1; existsSync(path); attempts += 1) {
    try {
      rmSync(path, { recursive: true, force: true });
    } catch {
      // Tried again.
    }
    if (attempts >= REMOVE_ATTEMPTS_MAX) throw new CommandError(`${path} can't be removed; remove it by hand.`);
    if (existsSync(path)) await Bun.sleep(REMOVE_PAUSE_MS);
  }
}
