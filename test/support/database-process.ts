import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const isRoot = process.getuid?.() === 0;
let compilationPromise: Promise<{ folder: string; executable: string }> | undefined;

/**
 * Compiles the fixture with the same flags as Parley, because a compiled executable behaves differently from its sources.
 * The folder is accessible to all users, so that tests can also run the executable as a different user.
 */
async function compileDatabaseProcess(): Promise<string> {
  compilationPromise ??= compileFixture();
  return (await compilationPromise).executable;
}

/** Removes the executable. Call it in `afterAll`. */
export async function removeDatabaseProcessExecutable(): Promise<void> {
  const compilation = await compilationPromise;
  compilationPromise = undefined;
  if (compilation) rmSync(compilation.folder, { recursive: true, force: true });
}

async function compileFixture(): Promise<{ folder: string; executable: string }> {
  const folder = createWorldWritableFolder();
  const executable = join(folder, "database-process");
  const source = join(import.meta.dir, "../db/fixtures/database-process.ts");
  const flags =
    "--compile --minify-whitespace --minify-syntax --bytecode --format=esm --no-compile-autoload-dotenv --no-compile-autoload-bunfig";
  const child = Bun.spawn([process.execPath, "build", ...flags.split(" "), source, "--outfile", executable], {
    stdout: "ignore",
    stderr: "pipe",
  });
  if ((await child.exited) !== 0) throw new Error(await new Response(child.stderr).text());
  return { folder, executable };
}

/** Creates a temporary folder that all users can read and write. */
export function createWorldWritableFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "parley-embedded-"));
  chmodSync(folder, 0o777);
  return folder;
}

export type DatabaseProcess = {
  pid: number;
  /** The lines that the process has printed. */
  lines: string[];
  /** Waits until the process has printed this many lines, or has exited. */
  waitForLines(count: number): Promise<void>;
  kill(signal: NodeJS.Signals): void;
  exited: Promise<number>;
};

export type DatabaseProcessOptions = {
  /** Runs the process as an unprivileged user if the tests run as root. */
  asNobody?: boolean;
  /** A command that starts the process, such as `setsid`. */
  wrapper?: string[];
};

/**
 * Starts an embedded Postgres in a separate process, so that a test can kill it.
 * @param mode A mode of the fixture (test/db/fixtures/database-process.ts).
 */
export async function startDatabaseProcess(
  mode: string,
  dataDir: string,
  { asNobody = false, wrapper = [] }: DatabaseProcessOptions = {},
): Promise<DatabaseProcess> {
  const executable = await compileDatabaseProcess();
  const userPrefix = asNobody && isRoot ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"] : [];
  const child = Bun.spawn([...wrapper, ...userPrefix, executable, mode, dataDir], {
    cwd: "/",
    env: { PATH: process.env.PATH ?? "" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines: string[] = [];
  const stdoutReader = (async () => {
    let partialLine = "";
    const decoder = new TextDecoder();
    for await (const chunk of child.stdout) {
      const completeLines = (partialLine + decoder.decode(chunk, { stream: true })).split("\n");
      partialLine = completeLines.pop() ?? "";
      lines.push(...completeLines);
    }
  })();
  let hasExited = false;
  const exited = child.exited.then(async (code) => {
    await stdoutReader;
    hasExited = true;
    return code;
  });
  return {
    pid: child.pid,
    lines,
    exited,
    kill: (signal) => child.kill(signal),
    async waitForLines(count) {
      while (lines.length < count && !hasExited) await Bun.sleep(5);
    },
  };
}
