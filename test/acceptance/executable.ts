import { chmodSync, copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterTestRun } from "../support/after-test-run.ts";

const repositoryFolder = resolve(import.meta.dir, "../..");
let copiedExecutable: Promise<string> | undefined;

/**
 * Returns a copy of the executable under test, in a folder that all users can read. A concurrent build can't replace the
 * copy.
 */
export function getExecutableCopy(): Promise<string> {
  copiedExecutable ??= copyExecutable();
  return copiedExecutable;
}

async function copyExecutable(): Promise<string> {
  const source = await buildExecutable();
  const folder = mkdtempSync(join(tmpdir(), "parley-executable-"));
  afterTestRun(() => {
    copiedExecutable = undefined;
    rmSync(folder, { recursive: true, force: true });
  });
  chmodSync(folder, 0o755);
  const executable = join(folder, "parley");
  copyFileSync(source, executable);
  chmodSync(executable, 0o755);
  return executable;
}

/** Returns `PARLEY_EXECUTABLE`, or builds `dist/parley` if it is missing or outdated. */
export async function buildExecutable(): Promise<string> {
  if (process.env.PARLEY_EXECUTABLE) return resolve(process.env.PARLEY_EXECUTABLE);
  // If `make` runs the tests, its flags must not apply to this nested `make`.
  const { MAKEFLAGS: _flags, MFLAGS: _old, MAKELEVEL: _level, ...env } = process.env;
  const child = Bun.spawn(["make", "--no-print-directory", "--silent", "build"], {
    cwd: repositoryFolder,
    env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const stderr = new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`make build: ${await stderr}`);
  return join(repositoryFolder, "dist/parley");
}
