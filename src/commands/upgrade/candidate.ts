import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readSync } from "node:fs";
import type { Readable } from "node:stream";
import { CommandError, type Environment, exitCodes } from "../command.ts";

export type BuildVersion = { version: string; commit: string };
/** How to run a command that uses the database. */
export type ProgramOptions = {
  environment: Environment;
  /** The user to run the command as: the owner of the data if this process runs as root, otherwise the current user. */
  user?: { uid: number; gid: number } | undefined;
  /** Kills the command when aborted. */
  signal: AbortSignal;
};

const VERSION_TIMEOUT_MS = 20_000;
/** Includes starting the embedded Postgres, which may need to recover after a crash. */
const STATUS_TIMEOUT_MS = 300_000;
const OUTPUT_CHARS_MAX = 1_000_000;
const BUSY_ATTEMPTS_MAX = 20;
const BUSY_RETRY_INTERVAL_MS = 100;
/** Values of `e_machine` in the ELF specification. */
const elfMachines: Partial<Record<NodeJS.Architecture, number>> = { x64: 62, arm64: 183 };
const archiveFormats: [string, string][] = [
  ["1f8b", "a gzip archive"],
  ["504b0304", "a ZIP archive"],
  ["28b52ffd", "a zstd archive"],
  ["fd377a58", "an xz archive"],
];

/** Checks the file's first bytes, because running a file of the wrong format would cause an unclear error. @throws CommandError. */
export function checkFormat(path: string, label: string): void {
  const fileStart = Buffer.alloc(20);
  const descriptor = openSync(path, "r");
  const readBytes = readSync(descriptor, fileStart);
  closeSync(descriptor);
  const archive = archiveFormats.find(([magic]) => fileStart.toString("hex").startsWith(magic));
  if (archive) throw new CommandError(`${label} is ${archive[1]}; unpack it, and pass the executable inside.`);
  if (process.platform !== "linux") return;
  if (readBytes < fileStart.length || fileStart.toString("hex", 0, 4) !== "7f454c46")
    throw new CommandError(`${label} is not an executable for Linux; use the one named linux-${process.arch}.`);
  if (fileStart.readUInt16LE(18) !== elfMachines[process.arch])
    throw new CommandError(`${label} was built for a different processor; use the one named linux-${process.arch}.`);
}

/** Runs the executable to determine its version. @throws CommandError if it doesn't run on this machine, or isn't Parley. */
export async function findExecutableVersion(path: string, label: string, signal: AbortSignal): Promise<BuildVersion> {
  // An unknown program must not receive secrets, so it runs without settings.
  const { code, output, errors } = await runProgram(
    path,
    ["--version"],
    { environment: { PATH: process.env.PATH }, signal },
    VERSION_TIMEOUT_MS,
  );
  const [, version, commit] = /^parley (\d+\.\d+\.\d+\S*) \((.+)\)\n$/.exec(output) ?? [];
  if (code === exitCodes.success && version !== undefined && commit !== undefined) return { version, commit };
  const reason =
    code === exitCodes.success ? "it doesn't report a Parley version" : findFirstLine(errors) || describeResult(code);
  throw new CommandError(`${label} is not a Parley that runs on this machine: ${reason}.`);
}

/**
 * Lists the migrations that the new executable would apply to the database.
 * @throws CommandError if the new executable doesn't contain all migrations of the database, or can't use the settings or the
 * database.
 */
export async function listPendingMigrations(
  path: string,
  programOptions: ProgramOptions,
  name: string,
): Promise<string[]> {
  const { code, output, errors } = await runProgram(path, ["migrate", "--status"], programOptions, STATUS_TIMEOUT_MS);
  if (code !== exitCodes.success)
    throw new CommandError(
      `${name} can't use the settings or the database of this version: ${errors.trim() || describeResult(code)}`,
    );
  const states = [...output.matchAll(/^(applied|pending|changed|unknown) +(\S+)/gm)].map(
    ([, state, migration = ""]) => ({
      state,
      migration,
    }),
  );
  const conflict = states.find(({ state }) => state === "unknown" || state === "changed");
  if (conflict)
    throw new CommandError(
      `${name} doesn't know the database's migration ${conflict.migration}, so it would not start; use a newer version, or restore a backup from before that migration.`,
    );
  return states.filter(({ state }) => state === "pending").map(({ migration }) => migration);
}

/** Runs a command of the current executable, with its output on stderr. @throws CommandError if it fails. */
export async function runCommand(path: string, args: string[], programOptions: ProgramOptions): Promise<void> {
  const child = spawn(path, args, {
    env: programOptions.environment,
    ...programOptions.user,
    stdio: ["ignore", process.stderr, process.stderr],
  });
  const result = await waitForExit(child, programOptions.signal);
  if (result !== exitCodes.success)
    throw new CommandError(`\`parley ${args[0]}\` failed (${describeResult(result)}), so nothing was replaced.`);
}

/** Runs a program. Returns its output, and its exit code or the reason why there is none. */
async function runProgram(
  path: string,
  args: string[],
  { environment, user, signal }: ProgramOptions,
  timeoutMs: number,
) {
  for (let attempts = 1; ; attempts += 1) {
    const child = spawn(path, args, {
      env: environment,
      ...user,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: timeoutMs,
      killSignal: "SIGKILL",
    });
    const [getOutput, getErrors] = [collectOutput(child.stdout), collectOutput(child.stderr)];
    const code = await waitForExit(child, signal);
    // ETXTBSY: a process that was forked while the file was being written has it open for a moment.
    if (typeof code === "number" || !code.includes("ETXTBSY") || attempts >= BUSY_ATTEMPTS_MAX)
      return { code, output: getOutput(), errors: getErrors() };
    await Bun.sleep(BUSY_RETRY_INTERVAL_MS);
  }
}

/** Collects the output of a stream. Returns a function that returns the output received up to then. */
function collectOutput(stream: Readable): () => string {
  let text = "";
  stream.on("data", (chunk: Buffer) => {
    if (text.length < OUTPUT_CHARS_MAX) text += chunk.toString();
  });
  return () => text;
}

async function waitForExit(child: ChildProcess, signal: AbortSignal): Promise<number | string> {
  const { promise, resolve } = Promise.withResolvers<number | string>();
  const stop = () => child.kill("SIGTERM");
  signal.addEventListener("abort", stop);
  child.once("error", (error) => resolve(error.message));
  child.once("close", (code, killSignal) => resolve(code ?? `killed by ${killSignal}`));
  try {
    return await promise;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** Returns the first line of a program's message, for use within a sentence. */
const findFirstLine = (text: string): string => text.trim().split("\n")[0]?.replace(/\.$/, "") ?? "";

const describeResult = (code: number | string): string => (typeof code === "number" ? `exit code ${code}` : code);
