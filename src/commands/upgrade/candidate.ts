import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readSync } from "node:fs";
import type { Readable } from "node:stream";
import { CommandError, type Environment, exitCodes } from "../command.ts";

export type BuildVersion = { version: string; commit: string };
/** How to run a command that uses the database. Root runs it as the owner of the data, as the service does. */
export type Runner = {
  environment: Environment;
  user?: { uid: number; gid: number } | undefined;
  /** Kills the command when aborted. */
  signal: AbortSignal;
};

const VERSION_TIMEOUT_MS = 20_000;
/** Includes starting the embedded Postgres, which may have to recover after a crash. */
const STATUS_TIMEOUT_MS = 300_000;
const OUTPUT_CHARS_MAX = 1_000_000;
const BUSY_ATTEMPTS_MAX = 20;
const BUSY_PAUSE_MS = 100;
/** Values of `e_machine` in the ELF specification. */
const elfMachines: Partial<Record<NodeJS.Architecture, number>> = { x64: 62, arm64: 183 };
const archives: [string, string][] = [
  ["1f8b", "a gzip archive"],
  ["504b0304", "a ZIP archive"],
  ["28b52ffd", "a zstd archive"],
  ["fd377a58", "an xz archive"],
];

/** Checks the first bytes of the file, for clearer errors than the operating system's. @throws CommandError. */
export function checkFormat(path: string, label: string): void {
  const head = Buffer.alloc(20);
  const descriptor = openSync(path, "r");
  const bytes = readSync(descriptor, head);
  closeSync(descriptor);
  const archive = archives.find(([magic]) => head.toString("hex").startsWith(magic));
  if (archive) throw new CommandError(`${label} is ${archive[1]}; unpack it, and pass the executable inside.`);
  if (process.platform !== "linux") return;
  if (bytes < head.length || head.toString("hex", 0, 4) !== "7f454c46")
    throw new CommandError(`${label} is not an executable for Linux; use the one named linux-${process.arch}.`);
  if (head.readUInt16LE(18) !== elfMachines[process.arch])
    throw new CommandError(`${label} was built for another processor; use the one named linux-${process.arch}.`);
}

/** Runs the executable to find out its version. @throws CommandError if it doesn't run on this machine, or isn't Parley. */
export async function readVersion(path: string, label: string, signal: AbortSignal): Promise<BuildVersion> {
  // Runs without settings, because an unknown program must not see secrets.
  const { code, output, errors } = await run(
    path,
    ["--version"],
    { environment: { PATH: process.env.PATH }, signal },
    VERSION_TIMEOUT_MS,
  );
  const [, version, commit] = /^parley (\d+\.\d+\.\d+\S*) \((.+)\)\n$/.exec(output) ?? [];
  if (code === exitCodes.success && version !== undefined && commit !== undefined) return { version, commit };
  const reason =
    code === exitCodes.success ? "it doesn't name a version of Parley" : firstLine(errors) || describe(code);
  throw new CommandError(`${label} is not a Parley that runs on this machine: ${reason}.`);
}

/**
 * Lists the migrations that the new executable would apply to the database.
 * @throws CommandError if the new executable doesn't know one of the database's migrations, or can't use the settings or the
 * database.
 */
export async function listPendingMigrations(path: string, runner: Runner, name: string): Promise<string[]> {
  const { code, output, errors } = await run(path, ["migrate", "--status"], runner, STATUS_TIMEOUT_MS);
  if (code !== exitCodes.success)
    throw new CommandError(
      `${name} can't use the settings or the database of this version: ${errors.trim() || describe(code)}`,
    );
  const states = [...output.matchAll(/^(applied|pending|changed|unknown) +(\S+)/gm)].map(
    ([, state, migration = ""]) => ({
      state,
      migration,
    }),
  );
  const foreign = states.find(({ state }) => state === "unknown" || state === "changed");
  if (foreign)
    throw new CommandError(
      `${name} doesn't know the database's migration ${foreign.migration}, so it would not start; use a newer version, or restore a backup from before that migration.`,
    );
  return states.filter(({ state }) => state === "pending").map(({ migration }) => migration);
}

/** Runs a command of the current executable; its output is written to stderr. @throws CommandError if it fails. */
export async function runCommand(path: string, args: string[], runner: Runner): Promise<void> {
  const child = spawn(path, args, {
    env: runner.environment,
    ...runner.user,
    stdio: ["ignore", process.stderr, process.stderr],
  });
  const ending = await waitForExit(child, runner.signal);
  if (ending !== exitCodes.success)
    throw new CommandError(`\`parley ${args[0]}\` failed (${describe(ending)}), so nothing was replaced.`);
}

/** Runs a program. @returns its output, and its exit code or the reason why there is none. */
async function run(path: string, args: string[], { environment, user, signal }: Runner, timeoutMs: number) {
  for (let attempts = 1; ; attempts += 1) {
    const child = spawn(path, args, {
      env: environment,
      ...user,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: timeoutMs,
      killSignal: "SIGKILL",
    });
    const [readOutput, readErrors] = [collect(child.stdout), collect(child.stderr)];
    const code = await waitForExit(child, signal);
    // ETXTBSY: a process forked while the file was being written keeps it open for a moment.
    if (typeof code === "number" || !code.includes("ETXTBSY") || attempts >= BUSY_ATTEMPTS_MAX)
      return { code, output: readOutput(), errors: readErrors() };
    await Bun.sleep(BUSY_PAUSE_MS);
  }
}

function collect(stream: Readable): () => string {
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
  child.once("close", (code, ending) => resolve(code ?? `ended by ${ending}`));
  try {
    return await promise;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** Formats another program's message for use within a sentence. */
const firstLine = (text: string): string => text.trim().split("\n")[0]?.replace(/\.$/, "") ?? "";

const describe = (code: number | string): string => (typeof code === "number" ? `exit code ${code}` : code);
