import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const isRoot = process.getuid?.() === 0;
let compiled: Promise<{ folder: string; executable: string }> | undefined;

/**
 * The fixture as an executable, compiled like Parley, in a folder that every user can access, so that tests run the
 * shipped form, also as another user.
 */
async function compileSmallParley(): Promise<string> {
  compiled ??= compile();
  return (await compiled).executable;
}

/** Removes the executable; for `afterAll` of a file that starts it. */
export async function removeSmallParley(): Promise<void> {
  const made = await compiled;
  compiled = undefined;
  if (made) rmSync(made.folder, { recursive: true, force: true });
}

async function compile(): Promise<{ folder: string; executable: string }> {
  const folder = createPublicFolder();
  const executable = join(folder, "small-parley");
  const source = join(import.meta.dir, "../db/fixtures/small-parley.ts");
  const flags =
    "--compile --minify-whitespace --minify-syntax --bytecode --format=esm --no-compile-autoload-dotenv --no-compile-autoload-bunfig";
  const child = Bun.spawn([process.execPath, "build", ...flags.split(" "), source, "--outfile", executable], {
    stdout: "ignore",
    stderr: "pipe",
  });
  if ((await child.exited) !== 0) throw new Error(await new Response(child.stderr).text());
  return { folder, executable };
}

/** A temporary folder that other users may enter. */
export function createPublicFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "parley-embedded-"));
  chmodSync(folder, 0o777);
  return folder;
}

export type SmallParley = {
  pid: number;
  /** All lines printed so far. */
  lines: string[];
  /** Waits until it has printed this many lines, or has ended. */
  printed(count: number): Promise<void>;
  kill(signal: NodeJS.Signals): void;
  exited: Promise<number>;
};

export type SmallParleyOptions = {
  /** Runs it as an ordinary user, which is the default unless the tests run as root. */
  asNobody?: boolean;
  /** The command that starts it. */
  wrapper?: string[];
};

/** Starts the fixture. */
export async function startSmallParley(
  mode: string,
  dataDir: string,
  { asNobody = false, wrapper = [] }: SmallParleyOptions = {},
): Promise<SmallParley> {
  const executable = await compileSmallParley();
  const user = asNobody && isRoot ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"] : [];
  const child = Bun.spawn([...wrapper, ...user, executable, mode, dataDir], {
    cwd: "/",
    env: { PATH: process.env.PATH ?? "" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines: string[] = [];
  const reading = (async () => {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of child.stdout) {
      const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = parts.pop() ?? "";
      lines.push(...parts);
    }
  })();
  let hasEnded = false;
  const exited = child.exited.then(async (code) => {
    await reading;
    hasEnded = true;
    return code;
  });
  return {
    pid: child.pid,
    lines,
    exited,
    kill: (signal) => child.kill(signal),
    async printed(count) {
      while (lines.length < count && !hasEnded) await Bun.sleep(5);
    },
  };
}
