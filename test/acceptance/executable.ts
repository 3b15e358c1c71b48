import { chmodSync, copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { atEndOfRun } from "../support/end-of-run.ts";

const root = resolve(import.meta.dir, "../..");
let found: Promise<string> | undefined;

/**
 * The executable under test: `dist/parley`, built if it is missing or outdated, or `PARLEY_EXECUTABLE`. Returns a copy
 * in a
 * folder that every user can read, so that a concurrent build can't replace it.
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

/** The original executable, for processes of the current user. */
export async function buildExecutable(): Promise<string> {
  if (process.env.PARLEY_EXECUTABLE) return resolve(process.env.PARLEY_EXECUTABLE);
  // The flags of an outer `make` must not apply to this one.
  const { MAKEFLAGS: _flags, MFLAGS: _old, MAKELEVEL: _level, ...env } = process.env;
  const child = Bun.spawn(["make", "--no-print-directory", "--silent", "build"], {
    cwd: root,
    env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const errors = new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`make build: ${await errors}`);
  return join(root, "dist/parley");
}
