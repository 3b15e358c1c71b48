import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { BUILD_SOURCES } from "../../scripts/release/sources.ts";
import { afterTestRun } from "./after-test-run.ts";

const repositoryFolder = resolve(import.meta.dir, "../..");

/** The version, commit and additional migration of the later version that `buildLaterVersion` builds. */
export const laterVersion = { version: "99.0.0", commit: "1a7e12b01d00", migration: "0099_later.sql" };

let executablePromise: Promise<string> | undefined;

/**
 * Builds a later version of Parley from this source tree, and returns the path of the executable. The build takes about
 * 10 seconds.
 */
export function buildLaterVersion(): Promise<string> {
  executablePromise ??= buildExecutable();
  return executablePromise;
}

async function buildExecutable(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "parley-later-"));
  afterTestRun(() => {
    executablePromise = undefined;
    rmSync(folder, { recursive: true, force: true });
  });
  for (const name of BUILD_SOURCES) cpSync(join(repositoryFolder, name), join(folder, name), { recursive: true });
  mkdirSync(join(folder, "dist"));
  symlinkSync(join(repositoryFolder, "node_modules"), join(folder, "node_modules"));
  cpSync(join(repositoryFolder, "dist/embedded"), join(folder, "dist/embedded"), { recursive: true });
  const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  writeFileSync(join(folder, "package.json"), JSON.stringify({ ...manifest, version: laterVersion.version }));
  writeFileSync(
    join(folder, "sql/migrations", laterVersion.migration),
    "create table of_a_later_version (id integer);\n",
  );
  const executable = join(folder, "parley-later");
  const child = Bun.spawn([process.execPath, "scripts/build.ts", executable], {
    cwd: folder,
    env: { ...process.env, PARLEY_COMMIT: laterVersion.commit },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const stderr = new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`build: ${await stderr}`);
  return executable;
}
