import { chmodSync, copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { atEndOfRun } from "../support/end-of-run.ts";

const root = resolve(import.meta.dir, "../..");
let found: Promise<string> | undefined;

/**
 * The executable that is tested: `dist/parley`, built when it is missing or older than its sources, or the one that
 * `PARLEY_EXECUTABLE` names. A copy, in a folder that every user can reach, which no other build replaces meanwhile.
 */
export function findExecutable(): Promise<string> {
  found ??= copyExecutable();
  return found;
}

async function copyExecutable(): Promise<string> {
  const source = await buildExecutable();
  const folder = mkdtempSync(join(tmpdir(), "parley-executable-"));
  atEndOfRun(() => {
    found = undefined;
    rmSync(folder, { recursive: true, force: true });
  });
  chmodSync(folder, 0o755);
  const executable = join(folder, "parley");
  copyFileSync(source, executable);
  chmodSync(executable, 0o755);
  return executable;
}

/** The executable in its place, for processes of this very user. */
export async function buildExecutable(): Promise<string> {
  if (process.env.PARLEY_EXECUTABLE) return resolve(process.env.PARLEY_EXECUTABLE);
  // The flags of a `make` above this one are about its own jobs.
  const { MAKEFLAGS: _flags, MFLAGS: _old, MAKELEVEL: _level, ...env } = process.env;
  const child = Bun.spawn(["make", "--no-print-directory", "--silent", "build"], {
    cwd: root,
    env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const said = new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`make build: ${await said}`);
  return join(root, "dist/parley");
}
